import { describe, expect, it } from 'vitest';
import { NODE, PROGRAM, SystemdManager, whyNoSystemd } from '../support/systemd/manager.ts';

/** The program of the service. It shows what it inherits, and prints JSON lines. */
const CHILD = `${NODE} ${PROGRAM}/test/support/systemd/inherited-netlink.ts`;
const SOCKETS = ['peerscope-dump.socket', 'peerscope-ended.socket'];
const UNITS = ['peerscope.service', ...SOCKETS];

const NETLINK_SOCK_DIAG = 4;
const DESCRIPTORS = [
  { name: 'dump', protocol: NETLINK_SOCK_DIAG, groups: '00000000', isBlocking: false },
  { name: 'ended', protocol: NETLINK_SOCK_DIAG, groups: '00000005', isBlocking: false },
];
/** CAP_SYS_PTRACE alone. */
const CAPABILITIES = '0000000000080000';

const obstacle = whyNoSystemd();

describe.skipIf(obstacle !== null)(`under a real systemd${obstacle === null ? '' : ` (${obstacle})`}`, () => {
  const next = async (manager: SystemdManager): Promise<unknown> => JSON.parse(await manager.line());
  const states = (manager: SystemdManager): string[] =>
    UNITS.map((unit) => manager.systemctl('show', '--property=ActiveState', '--value', unit).stdout);

  it('the service inherits both netlink sockets, and needs no privilege to use them', async () => {
    await using manager = SystemdManager.start(UNITS, CHILD);
    expect(await next(manager)).toEqual({
      isForThisProcess: true,
      descriptors: DESCRIPTORS,
      capabilities: CAPABILITIES,
      isRoot: false,
    });
    expect(await next(manager)).toEqual({ dumpHasListener: true });
    expect(await next(manager)).toEqual({ endedHasConnection: true });
  });

  it('the service runs without the socket units', async () => {
    await using manager = SystemdManager.start(['peerscope.service'], CHILD);
    expect(await next(manager)).toMatchObject({ descriptors: [], capabilities: CAPABILITIES });
  });

  it('a restarted service inherits both again', async () => {
    await using manager = SystemdManager.start(UNITS, CHILD);
    expect(await next(manager)).toMatchObject({ descriptors: DESCRIPTORS });
    for (let i = 0; i < 2; i++) await manager.line();
    expect(manager.systemctl('restart', 'peerscope.service').status).toBe(0);
    expect(await next(manager)).toMatchObject({ isForThisProcess: true, descriptors: DESCRIPTORS });
    expect(await next(manager)).toEqual({ dumpHasListener: true });
  });

  it('a killed service starts again after RestartSec and inherits both', async () => {
    await using manager = SystemdManager.start(UNITS, CHILD, ['RestartSec=100ms']);
    expect(await next(manager)).toMatchObject({ descriptors: DESCRIPTORS });
    for (let i = 0; i < 2; i++) await manager.line();
    manager.systemctl('kill', '--signal=KILL', 'peerscope.service');
    expect(await next(manager)).toMatchObject({ isForThisProcess: true, descriptors: DESCRIPTORS });
    expect(states(manager)).toEqual(['active', 'active', 'active']);
  });

  it('a stopped service stays stopped: the sockets stop with it, and no ended connection starts it', async () => {
    await using manager = SystemdManager.start(UNITS, CHILD);
    expect(await next(manager)).toMatchObject({ descriptors: DESCRIPTORS });
    for (let i = 0; i < 2; i++) await manager.line();
    expect(states(manager)).toEqual(['active', 'active', 'active']);
    expect(manager.systemctl('stop', 'peerscope.service').status).toBe(0);
    await expect.poll(() => states(manager), { interval: 1 }).toEqual(['inactive', 'inactive', 'inactive']);
  });
});
