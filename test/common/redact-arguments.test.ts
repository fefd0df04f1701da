import fc from 'fast-check';
import { expect, it } from 'vitest';
import { redactArguments } from '../../src/common/redact-arguments.ts';

it.each<[args: string[], shown: string]>([
  [['/usr/sbin/nginx', '-g', 'daemon off;'], "/usr/sbin/nginx -g 'daemon off;'"],
  [['nginx: worker process'], 'nginx: worker process'],
  [['app', '--token=abc'], 'app --token=***'],
  [['app', '--token', 'abc', '--port', '80'], 'app --token *** --port 80'],
  [['app', '--db-password=a=b c'], 'app --db-password=***'],
  [['app', '-password', 'x'], 'app -password ***'],
  [['app', '--password', '--verbose'], 'app --password --verbose'],
  [['app --token abc --port 80'], 'app --token *** --port 80'],
  [['java', '-Dspring.datasource.password=x', '-jar', 'a.jar'], 'java -Dspring.datasource.password=*** -jar a.jar'],
  [['env', 'API_KEY=x', 'DEBUG=1'], 'env API_KEY=*** DEBUG=1'],
  [['psql', 'postgres://app:s3cret@db.example:5432/x'], 'psql postgres://app:***@db.example:5432/x'],
  [['git', 'clone', 'https://user@example.com/a'], 'git clone https://user@example.com/a'],
  [['git', 'clone', 'https://abcdefghijklmnopqrstuvwxyz@example.com/a'], 'git clone https://***@example.com/a'],
  [['curl', '-u', 'user:pass', 'https://example.com'], 'curl -u user:*** https://example.com'],
  [['curl', '-H', 'Authorization: Bearer abc'], "curl -H 'Authorization: ***'"],
  [['curl', '-H', 'X-Api-Key: abc'], "curl -H 'X-Api-Key: ***'"],
  [['curl', 'https://example.com/?access_token=abc&x=1'], 'curl https://example.com/?access_token=***&x=1'],
  [['curl', '-d', '{"password":"x","a":1}'], `curl -d '{"password":"***","a":1}'`],
  [['worker Authorization: Bearer abc'], 'worker Authorization: *** ***'],
  [['mysql', '-uroot', '-ps3cret', 'db'], 'mysql -uroot -p*** db'],
  [['sshpass', '-p', 's3cret', 'ssh', 'h'], 'sshpass -p *** ssh h'],
  [['aws', 'AKIAIOSFODNN7EXAMPLE'], 'aws ***'],
  [['kubectl', '--token-file=/run/token'], 'kubectl --token-file=/run/token'],
  [['sshd', '-p', '22'], 'sshd -p 22'],
  [['redis-server', '0.0.0.0:6379'], 'redis-server 0.0.0.0:6379'],
  [['sudo', 'mysql', '-ps3cret'], 'sudo mysql -p***'],
  [['sh', '-c', 'cd /x;  mysql -ps3cret db'], "sh -c 'cd /x;  mysql -p*** db'"],
  [['sh', '-c', 'app --password x --y\n\tcurl -u me:x h'], "sh -c 'app --password *** --y\n\tcurl -u me:*** h'"],
  [['sshpass', '-ps3cret', 'ssh', '-p', '22', 'h'], 'sshpass -p*** ssh -p 22 h'],
  [['curl', '-uuser:pass', '--user=a:b'], 'curl -uuser:*** --user=a:***'],
  [['redis-cli', '-a', 'x', 'PING'], 'redis-cli -a *** PING'],
  [['docker', 'login', '-u', 'a', '-p', 'x', 'h'], 'docker login -u a -p *** h'],
  [['docker', 'run', '-p', '80:80', '--user', '0:0', 'i'], 'docker run -p 80:80 --user 0:0 i'],
  [['ldapsearch', '-D', 'cn=a', '-w', 'x'], 'ldapsearch -D cn=a -w ***'],
  [['snmpwalk', '-c', 'x', '-v2c'], 'snmpwalk -c *** -v2c'],
  [['snmpd', '-c', '/etc/snmpd.conf'], 'snmpd -c /etc/snmpd.conf'],
  [['zip', '-P', 'x', 'a.zip'], 'zip -P *** a.zip'],
  [['7z', 'a', '-px', 'a.7z'], '7z a -p*** a.7z'],
  [['smbclient', '//h/s', '-U', 'user%x'], 'smbclient //h/s -U user%***'],
  [['xfreerdp', '/u:a', '/p:x'], 'xfreerdp /u:a /p:***'],
  [['htpasswd', '-cb', 'f', 'user', 'x'], 'htpasswd -cb f user ***'],
  [['aws', 'configure', 'set', 'aws_secret_access_key', 'x'], 'aws configure set aws_secret_access_key ***'],
  [['vault', 'login', 'hvs.CAESIabcdefgh'], 'vault login ***'],
  [['app', 'https://hooks.slack.com/services/T0/B0/abc'], 'app https://hooks.slack.com/services/***'],
  [['app', 'tab\there'], "app 'tab\there'"],
])('%j is shown as %s', (args, shown) => {
  expect(redactArguments(args)).toBe(shown);
});

it('never shows the value of a secret option', () => {
  const name = fc.constantFrom('password', 'db-password', 'api-key', 'token', 'client_secret', 'AUTH_TOKEN');
  const secret = fc.stringMatching(/^[A-Za-z0-9]{12,24}$/);
  const form = fc.constantFrom<(name: string, secret: string) => string[]>(
    (name, secret) => [`--${name}=${secret}`],
    (name, secret) => [`--${name}`, secret],
    (name, secret) => [`${name}=${secret}`],
    (name, secret) => [`${name}: ${secret}`],
    (name, secret) => [`https://example.com/?${name}=${secret}`],
    (_, secret) => [`amqp://user:${secret}@example.com/`],
  );
  fc.assert(
    fc.property(name, secret, form, fc.boolean(), (name, secret, form, isOne) => {
      const args = ['app', ...form(name, secret), '--verbose'];
      return !redactArguments(isOne ? [args.join(' ')] : args).includes(secret);
    }),
  );
});

it('keeps arguments without secrets as they are, and ends for any text', () => {
  fc.assert(fc.property(fc.array(fc.string()), (args) => typeof redactArguments(args) === 'string'));
  const word = fc.stringMatching(/^[a-z]{1,8}$/).filter((text) => !/pass|pwd|token|key|auth|sas|psk/.test(text));
  fc.assert(
    fc.property(fc.array(word, { minLength: 2 }), (args) => {
      expect(redactArguments(args)).toBe(args.join(' '));
    }),
  );
});
