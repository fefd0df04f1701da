import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nameProcess, type Running } from '../../src/collect/process-name.ts';
import { cleanLabel } from '../../src/common/sanitize.ts';
import type { ProcessRule } from '../../src/model.ts';

const running = (process: Partial<Running>): Running => ({
  exe: null,
  comm: 'comm',
  cmdline: null,
  self: false,
  ...process,
});

describe('a process without a rule is named after what it runs', () => {
  const BY_ARGUMENTS = [
    { exe: '/usr/sbin/nginx', cmdline: 'nginx: worker process', expected: 'nginx' },
    { exe: '/usr/sbin/nginx (deleted)', cmdline: 'nginx', expected: 'nginx' },
    { exe: '/usr/sbin/php-fpm8.2', cmdline: 'php-fpm:|pool|www', expected: 'php-fpm8.2' },
    { exe: '/opt/node_exporter/node_exporter', cmdline: './node_exporter|--web', expected: 'node_exporter' },

    { exe: '/usr/bin/python3.11', cmdline: 'python3|/srv/manage.py|runserver', expected: 'manage.py' },
    { exe: '/usr/bin/python3.11 (deleted)', cmdline: 'python3|/srv/manage.py', expected: 'manage.py' },
    { exe: '/usr/bin/python3.13t', cmdline: '/usr/bin/python3|/usr/local/bin/gunicorn|app:app', expected: 'gunicorn' },
    { exe: '/usr/bin/python3.11', cmdline: 'python3|-u|-X|dev|-W|error|worker.py|-m|x', expected: 'worker.py' },
    { exe: '/usr/bin/python3.11', cmdline: 'python3|-Wdefault::c|worker.py', expected: 'worker.py' },
    { exe: '/usr/bin/python3.11', cmdline: 'python3|-m|http.server|8000', expected: 'http.server' },
    { exe: '/usr/bin/python3.11', cmdline: 'python3|-um|uvicorn|app:app', expected: 'uvicorn' },
    { exe: '/usr/bin/python3.11', cmdline: 'python3|-mcelery', expected: 'celery' },
    { exe: '/usr/bin/python3.11', cmdline: 'python3|-uc|import os|x.py', expected: 'python' },
    { exe: '/usr/bin/python3.11', cmdline: 'python3|-|x.py', expected: 'python' },
    { exe: '/usr/bin/python3.11', cmdline: 'python3', expected: 'python' },
    { exe: '/usr/bin/python2.7', cmdline: 'python', expected: 'python' },
    { exe: '/usr/bin/python3.11', cmdline: 'gunicorn: master [app]', expected: 'python' },
    { exe: '/opt/pypy3.10', cmdline: 'pypy3|a.py', expected: 'a.py' },

    {
      exe: '/usr/bin/node',
      cmdline: 'node|--max-old-space-size=4096|/srv/shop/server.js|--port|1',
      expected: 'server.js',
    },
    { exe: '/usr/bin/node', cmdline: 'node|-r|dotenv/config|--import|tsx|/srv/app.ts', expected: 'app.ts' },
    { exe: '/usr/bin/node', cmdline: 'node|inspect|/srv/app.js', expected: 'app.js' },
    { exe: '/usr/bin/node', cmdline: 'node|/usr/bin/npm|start', expected: 'npm' },
    { exe: '/usr/bin/node', cmdline: 'npm start||||', expected: 'node' },
    { exe: '/usr/bin/node', cmdline: 'node|-e|setInterval(f, 1)|x.js', expected: 'node' },
    { exe: '/usr/bin/node', cmdline: 'node|--eval=f()|x.js', expected: 'node' },
    { exe: '/usr/bin/node', cmdline: 'node|.', expected: 'node' },
    { exe: '/usr/bin/nodejs', cmdline: 'nodejs|--|-app.js', expected: '-app.js' },

    {
      exe: '/usr/bin/deno',
      cmdline: 'deno|run|--allow-net|-c|deno.json|https://example.org/serve.ts',
      expected: 'serve.ts',
    },
    { exe: '/usr/bin/deno', cmdline: 'deno|main.ts', expected: 'main.ts' },
    { exe: '/usr/bin/deno', cmdline: 'deno|task|dev', expected: 'deno' },
    { exe: '/usr/bin/bun', cmdline: 'bun|--watch|run|--preload|./p.ts|src/api.ts', expected: 'api.ts' },
    { exe: '/usr/bin/bun', cmdline: 'bun|run|start', expected: 'bun' },

    { exe: '/bin/bash', cmdline: '/bin/bash|-eo|pipefail|/opt/backup.sh|now', expected: 'backup.sh' },
    { exe: '/bin/bash', cmdline: 'bash|+x|--rcfile|/etc/rc|backup', expected: 'backup' },
    { exe: '/bin/bash', cmdline: '-bash', expected: 'bash' },
    { exe: '/bin/bash', cmdline: 'bash|--posix|/opt/backup.sh', expected: 'backup.sh' },
    { exe: '/bin/bash', cmdline: 'bash|-lc|exec 3<>/dev/tcp/192.0.2.1/80|x.sh', expected: 'bash' },
    { exe: '/bin/bash', cmdline: 'bash|/dev/fd/63', expected: 'bash' },
    { exe: '/bin/dash', cmdline: 'sh|-s|x', expected: 'dash' },

    { exe: '/usr/bin/ruby3.1', cmdline: 'ruby|-I|lib|-rbundler/setup|bin/rails|server', expected: 'rails' },
    { exe: '/usr/bin/ruby3.1', cmdline: 'ruby|-ne|puts', expected: 'ruby' },
    { exe: '/usr/bin/perl', cmdline: '/usr/bin/perl|-wT|-MData::Dumper|/usr/sbin/spamd', expected: 'spamd' },
    { exe: '/usr/bin/perl5.36.0', cmdline: 'perl|-lane|print|x.pl', expected: 'perl' },
    { exe: '/usr/bin/php8.2', cmdline: 'php|-d|memory_limit=1G|/srv/artisan|queue:work', expected: 'artisan' },
    { exe: '/usr/bin/php8.2', cmdline: 'php|-f|/srv/cron.php', expected: 'cron.php' },
    { exe: '/usr/bin/php8.2', cmdline: 'php|-S|localhost:8000|router.php', expected: 'php' },

    { exe: '/usr/lib/jvm/21/bin/java', cmdline: 'java|-Xmx1g|-jar|/opt/app-1.2.3.jar|-m|x', expected: 'app-1.2.3.jar' },
    {
      exe: '/usr/lib/jvm/21/bin/java',
      cmdline: 'java|-Dx=y|-cp|/opt/kafka/*|--add-opens|java.base/java.lang=ALL-UNNAMED|kafka.Kafka|server.properties',
      expected: 'kafka.Kafka',
    },
    {
      exe: '/usr/lib/jvm/21/bin/java',
      cmdline: 'java|-p|/opt/es|--module|org.elasticsearch.server/org.elasticsearch.bootstrap.Elasticsearch',
      expected: 'org.elasticsearch.bootstrap.Elasticsearch',
    },
    { exe: '/usr/lib/jvm/21/bin/java', cmdline: 'java|@jvm.options|com.example.Main', expected: 'com.example.Main' },
    { exe: '/usr/lib/jvm/21/bin/java', cmdline: 'java|-version', expected: 'java' },
    { exe: '/usr/bin/dotnet', cmdline: 'dotnet|/srv/Shop.Api.dll|--urls|x', expected: 'Shop.Api.dll' },
    { exe: '/usr/bin/dotnet', cmdline: 'dotnet|exec|--depsfile|a.json|Shop.dll', expected: 'Shop.dll' },
    { exe: '/usr/bin/dotnet', cmdline: 'dotnet|run|--project|x.dll', expected: 'dotnet' },

    { exe: '/bin/busybox', cmdline: 'httpd|-f', expected: 'httpd' },
    { exe: '/bin/busybox.static', cmdline: '/bin/busybox|nc|-l', expected: 'nc' },
    { exe: '/bin/busybox', cmdline: '/bin/sh|/entrypoint.sh', expected: 'entrypoint.sh' },
    { exe: '/bin/busybox', cmdline: '-sh', expected: 'sh' },
    { exe: '/bin/busybox', cmdline: 'busybox|--list', expected: 'busybox' },
    { exe: '/system/bin/toybox', cmdline: 'toybox', expected: 'toybox' },
  ];

  test.each(BY_ARGUMENTS)('$exe with $cmdline is $expected', ({ exe, cmdline, expected }) => {
    expect(nameProcess(running({ exe, cmdline: cmdline.split('|') }), [])).toBe(expected);
  });

  test.each([
    {
      exe: '/usr/bin/redis-check-rdb',
      comm: 'redis-server',
      cmdline: '/usr/bin/redis-server 127.0.0.1:6379|||',
      expected: 'redis-server',
    },
    {
      exe: '/usr/bin/redis-check-rdb',
      comm: 'redis-server',
      cmdline: 'redis-rdb-bgsave 127.0.0.1:6379',
      expected: 'redis-server',
    },
    {
      exe: '/usr/bin/redis-check-rdb (deleted)',
      comm: 'redis-sentinel',
      cmdline: '/usr/bin/redis-sentinel unixsocket:/run/redis.sock [sentinel]',
      expected: 'redis-sentinel',
    },
    {
      exe: '/usr/bin/redis-check-rdb',
      comm: 'redis-check-rdb',
      cmdline: 'redis-check-rdb|dump.rdb',
      expected: 'redis-check-rdb',
    },
    {
      exe: '/usr/local/bin/redis-server',
      comm: 'redis-sentinel',
      cmdline: 'redis-sentinel *:26379 [sentinel]',
      expected: 'redis-sentinel',
    },
    {
      exe: '/usr/bin/valkey-check-rdb',
      comm: 'valkey-server',
      cmdline: 'valkey-server *:6379',
      expected: 'valkey-server',
    },
    {
      exe: '/usr/bin/clickhouse',
      comm: 'clickhouse-serv',
      cmdline: '/usr/bin/clickhouse-server|--config=x',
      expected: 'clickhouse-server',
    },
    {
      exe: '/usr/bin/pipewire',
      comm: 'pipewire-pulse',
      cmdline: '/usr/bin/pipewire-pulse',
      expected: 'pipewire-pulse',
    },
    { exe: '/usr/sbin/glusterfsd', comm: 'glusterd', cmdline: '/usr/sbin/glusterd|-p|x', expected: 'glusterd' },
    {
      exe: '/var/lib/rancher/k3s/data/0a/bin/k3s',
      comm: 'containerd',
      cmdline: 'containerd|-c|x',
      expected: 'containerd',
    },
    { exe: '/usr/sbin/dropbearmulti', comm: 'dropbear', cmdline: '/usr/sbin/dropbear|-F', expected: 'dropbear' },
    { exe: '/usr/bin/coreutils', comm: 'tee', cmdline: '/usr/bin/tee|x', expected: 'tee' },
    { exe: '/usr/sbin/php-fpm8.2', comm: 'php-fpm', cmdline: 'php-fpm: pool www', expected: 'php-fpm' },
    { exe: '/bin/bash-static', comm: 'bash', cmdline: '/bin/bash|/opt/backup.sh', expected: 'backup.sh' },
    {
      exe: '/usr/bin/containerd-shim-runc-v2',
      comm: 'containerd-shim',
      cmdline: '/usr/bin/containerd-shim-runc-v2|-id|x',
      expected: 'containerd-shim-runc-v2',
    },
  ])('$exe with comm $comm and $cmdline goes by the link $expected', ({ exe, comm, cmdline, expected }) => {
    expect(nameProcess(running({ exe, comm, cmdline: cmdline.split('|') }), [])).toBe(expected);
  });

  test.each([
    { name: 'argv[0] alone', exe: '/opt/x/miner', comm: 'miner', cmdline: 'nginx: worker process', expected: 'miner' },
    {
      name: 'argv[0] and comm of another package',
      exe: '/tmp/miner',
      comm: 'sshd',
      cmdline: 'sshd',
      expected: 'miner',
    },
    { name: 'comm alone', exe: '/usr/sbin/smbd', comm: 'smbd-notifyd', cmdline: 'smbd: notifyd .', expected: 'smbd' },
    {
      name: 'argv[0] alone, of the same package',
      exe: '/usr/bin/redis-check-rdb',
      comm: 'redis-check-rdb',
      cmdline: 'redis-server',
      expected: 'redis-check-rdb',
    },
    {
      name: 'argv[0] of a known link',
      exe: '/usr/bin/redis-check-rdb',
      comm: 'x',
      cmdline: 'nginx',
      expected: 'redis-check-rdb',
    },
    { name: 'comm that is no known link', exe: '/var/k3s', comm: 'etcd', cmdline: 'etcd', expected: 'k3s' },
    {
      name: 'comm that is only the beginning of argv[0]',
      exe: '/usr/bin/foo',
      comm: 'foo-ser',
      cmdline: 'foo-server',
      expected: 'foo',
    },
    {
      name: 'an interpreter’s comm and argv[0]',
      exe: '/usr/bin/python3.11',
      comm: 'python-evil',
      cmdline: 'python-evil',
      expected: 'python',
    },
    { name: 'a name of the same letters only', exe: '/usr/bin/ssh', comm: 'sshd', cmdline: 'sshd', expected: 'ssh' },
    { name: 'an executable without a word', exe: '/tmp/-', comm: '(sd-pam)', cmdline: '(sd-pam)', expected: '-' },
  ])('a program does not choose its name by $name', ({ exe, comm, cmdline, expected }) => {
    expect(nameProcess(running({ exe, comm, cmdline: cmdline.split('|') }), [])).toBe(expected);
  });

  test.each([
    { name: 'comm where the executable cannot be read', process: { comm: 'nginx', cmdline: ['x'] }, expected: 'nginx' },
    { name: 'an interpreter whose arguments cannot be read', process: { exe: '/usr/bin/python3' }, expected: 'python' },
    { name: 'busybox whose arguments cannot be read', process: { exe: '/bin/busybox' }, expected: 'busybox' },
    { name: 'a process that has hidden its name', process: { comm: '' }, expected: 'unknown' },
    { name: 'a name that would move the cursor', process: { comm: 'a\x1b[2J\n' }, expected: 'a�[2J�' },
    {
      name: 'a script with a name as long as a label may be',
      process: { exe: '/bin/bash', cmdline: ['bash', `/tmp/${'x'.repeat(200)}`] },
      expected: 'x'.repeat(128),
    },
    {
      name: 'this program, which node runs as main.js',
      process: { exe: '/usr/bin/node', cmdline: ['node', '/app/dist/main.js'], self: true },
      expected: 'peerscope',
    },
    ...['peerscope', 'peerscope serve', 'peerscope check-config'].map((title) => ({
      name: `another peerscope with the title "${title}"`,
      process: { exe: '/usr/lib/peerscope/node', comm: 'peerscope', cmdline: [title, ''] },
      expected: 'peerscope',
    })),
    {
      name: 'another program with the comm and the title of peerscope',
      process: { exe: '/tmp/miner', comm: 'peerscope', cmdline: ['peerscope serve'] },
      expected: 'miner',
    },
    ...[
      { comm: 'peerscope', cmdline: ['peerscope: 42 clients'] },
      { comm: 'peerscope', cmdline: ['node'] },
      { comm: 'MainThread', cmdline: ['peerscope'] },
      { comm: 'peerscope', cmdline: null },
    ].map((process) => ({
      name: `another Node.js program with comm ${process.comm} and ${process.cmdline?.[0] ?? 'no arguments'}`,
      process: { exe: '/usr/bin/node', ...process },
      expected: 'node',
    })),
  ])('$name', ({ process, expected }) => {
    expect(nameProcess(running(process), [])).toBe(expected);
  });
});

describe('a rule of the configuration comes first', () => {
  const django = running({
    exe: '/usr/bin/python3.11',
    comm: 'gunicorn',
    cmdline: ['python3', '/srv/shop.py', '-w', '4'],
  });
  const CASES: { name: string; process?: Running; rules: ProcessRule[]; expected: string }[] = [
    {
      name: 'a named group fills the template',
      rules: [{ name: 'app-{{ .script }}', exe: /^\/usr\/bin\/python3/, cmdline: /(?<script>[a-z]+)\.py/ }],
      expected: 'app-shop',
    },
    {
      name: 'groups of all patterns, the executable and comm may be used, with or without blanks',
      rules: [
        {
          name: '{{.bin}}/{{ .exe_base }}/{{  .comm }}/{{ .first }}',
          exe: /(?<bin>bin)/,
          comm: /^(?<first>.)/,
          cmdline: /shop/,
        },
      ],
      expected: 'bin/python3.11/gunicorn/g',
    },
    {
      name: 'the first rule that matches',
      rules: [
        { name: 'one', comm: /^nginx$/ },
        { name: 'two', comm: /^gunicorn$/ },
        { name: 'three', comm: /./ },
      ],
      expected: 'two',
    },
    {
      name: 'every pattern must match',
      rules: [{ name: 'one', comm: /gunicorn/, cmdline: /manage/ }],
      expected: 'shop.py',
    },
    {
      name: 'arguments are joined by a blank',
      rules: [{ name: 'four', cmdline: /^python3 \/srv\/shop\.py -w 4$/ }],
      expected: 'four',
    },
    {
      name: 'a template that comes out empty does not match',
      rules: [
        { name: '{{ .none }}{{ .constructor }}', comm: /(?<none>x)?/ },
        { name: 'next', comm: /./ },
      ],
      expected: 'next',
    },
    {
      name: 'the executable is matched without " (deleted)"',
      process: running({ exe: '/opt/old/server (deleted)' }),
      rules: [{ name: 'old', exe: /server$/ }],
      expected: 'old',
    },
    {
      name: 'what cannot be read does not match',
      process: running({ comm: 'x' }),
      rules: [
        { name: 'one', exe: /^/ },
        { name: 'two', cmdline: /^/ },
      ],
      expected: 'x',
    },
    {
      name: 'peerscope too may be named by a rule',
      process: running({ exe: '/usr/bin/node', self: true }),
      rules: [{ name: 'exporter', exe: /node$/ }],
      expected: 'exporter',
    },
    {
      name: 'what a group caught is cleaned',
      process: running({ comm: 'a\nb' }),
      rules: [{ name: 'app {{ .it }}', comm: /(?<it>[^]+)/ }],
      expected: 'app a�b',
    },
  ];

  test.each(CASES)('$name', ({ process = django, rules, expected }) => {
    expect(nameProcess(process, rules)).toBe(expected);
  });
});

describe('hostile processes', () => {
  const exe = fc.option(
    fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom(
        '/usr/bin/python3',
        '/bin/bash',
        '/usr/bin/perl',
        '/usr/bin/java',
        '/bin/busybox',
        '/usr/bin/deno',
        '/',
      ),
    ),
  );
  const argument = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom('-m', '-c', '--', '-', '/', '-jar', 'run', 'sh', ''),
  );
  const rules: ProcessRule[] = [{ name: '{{ .x }}', cmdline: /q(?<x>.?)/ }];

  test('every process has a name that is valid as a label', () => {
    fc.assert(
      fc.property(exe, fc.string({ unit: 'binary' }), fc.option(fc.array(argument)), (exe, comm, cmdline) => {
        const name = nameProcess({ exe, comm, cmdline, self: false }, rules);
        expect(name).not.toBe('');
        expect(cleanLabel(name)).toBe(name);
      }),
    );
  });

  test.each([
    '/bin/bash',
    '/usr/bin/python3',
    '/usr/bin/node',
    '/usr/bin/php',
    '/usr/bin/java',
    '/usr/bin/ruby',
    '/bin/busybox',
  ])('a very long argument costs %s little', (exe) => {
    for (const piece of ['c', '/', 'o', '-', '1']) {
      const long = piece.repeat(1 << 17);
      for (const cmdline of [
        ['x', `-${long}!`, 'y'],
        ['x', `${long}\n`],
        [long, long],
      ]) {
        expect(nameProcess(running({ exe, cmdline }), [])).not.toBe('');
      }
    }
  });
});
