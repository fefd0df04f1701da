import fc from 'fast-check';
import { expect, it } from 'vitest';
import { operatorName } from '../../src/common/operator-name.ts';

it.each<[asn: number, registered: string | null, name: string | null]>([
  [13335, 'CLOUDFLARENET - Cloudflare, Inc.', 'Cloudflare'],
  [13335, 'CLOUDFLARENET', 'Cloudflare'],
  [13335, null, 'Cloudflare'],
  [64500, null, null],
  [64500, 'EXAMPLE - Example LLC', 'Example'],
  [64500, 'EXAMPLE - Example Networks Co., Ltd.', 'Example Networks'],
  [64500, 'EXAMPLE-AS - Example B.V.', 'Example'],
  [64500, 'Example, Inc.', 'Example'],
  [64500, 'DIGITALEXAMPLE-ASN', 'DIGITALEXAMPLE'],
  [64500, 'EXAMPLE-AS-AP', 'EXAMPLE'],
  [64500, 'EXAMPLE-ASN1', 'EXAMPLE'],
  [64500, 'AS-EXAMPLE', 'AS-EXAMPLE'],
  [64500, 'EXAMPLE-02', 'EXAMPLE-02'],
  [64500, 'Example Telecom - North', 'Example Telecom - North'],
  [64500, 'Inc.', 'Inc.'],
])('AS%i with the registered name %j is %j', (asn, registered, name) => {
  expect(operatorName(asn, registered)).toBe(name);
});

it('is never empty for a registered name', () => {
  const part = fc.constantFrom('AS', '-', ' - ', 'Inc.', ', LLC', 'EXAMPLE', ' ', 'GmbH');
  fc.assert(
    fc.property(fc.array(part, { minLength: 1 }), (parts) => {
      const registered = parts.join('').trim();
      return registered === '' || operatorName(64500, registered) !== '';
    }),
  );
});
