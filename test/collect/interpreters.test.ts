import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nameProcess } from '../../src/collect/process-name.ts';

const nameOf = (exe: string, cmdline: readonly string[], comm = 'comm'): string =>
  nameProcess({ exe, comm, cmdline, self: false }, []);

const NGINX = '/usr/sbin/nginx';
const LD = '/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2';

describe('a loader or translator is named after the program that it runs', () => {
  test.each([
    { exe: LD, cmdline: `/lib64/ld-linux-x86-64.so.2|--library-path|/opt/lib|/opt/app/server`, expected: 'server' },
    { exe: LD, cmdline: `ld.so|--argv0|x|--preload|/opt/a.so|--inhibit-cache|/opt/app/server|-x`, expected: 'server' },
    { exe: '/lib/x86_64-linux-gnu/ld-2.31.so', cmdline: `/lib64/ld-linux-x86-64.so.2|${NGINX}`, expected: 'nginx' },
    { exe: '/lib/ld-musl-aarch64.so.1', cmdline: `ld-musl|--library-path=/lib|--|${NGINX}`, expected: 'nginx' },
    { exe: '/usr/lib/libc.so', cmdline: `/lib/ld-musl-x86_64.so.1|${NGINX}`, expected: 'nginx' },
    { exe: '/lib/ld-linux-armhf.so.3', cmdline: `/lib/ld-linux-armhf.so.3|/usr/bin/python3|a.py`, expected: 'a.py' },
    { exe: '/lib/ld64.so.2', cmdline: `/lib/ld64.so.2|/bin/busybox|httpd`, expected: 'httpd' },
    { exe: '/lib/ld-linux-riscv64-lp64d.so.1', cmdline: `ld|${NGINX}`, expected: 'nginx' },
    { exe: '/lib/ld-uClibc-1.0.47.so', cmdline: `ld|${NGINX}`, expected: 'nginx' },
    { exe: LD, cmdline: '/lib64/ld-linux-x86-64.so.2', expected: 'ld.so' },

    { exe: '/usr/bin/qemu-x86_64-static', cmdline: 'q|/usr/bin/redis-server|*:6379', expected: 'redis-server' },
    { exe: '/usr/bin/qemu-aarch64', cmdline: `qemu-aarch64|-0|shop|-L|/usr/aarch64|${NGINX}`, expected: 'nginx' },
    { exe: '/usr/bin/qemu-arm', cmdline: `qemu-arm|-E|A=B|-cpu|max|-strace|${NGINX}`, expected: 'nginx' },
    { exe: '/usr/bin/qemu-ppc64le', cmdline: 'q|/usr/bin/python3.11|python3|/srv/a.py', expected: 'a.py' },
    { exe: '/usr/bin/qemu-ppc64le', cmdline: 'q|/usr/bin/python3.11|/srv/a.py', expected: 'a.py' },
    { exe: '/usr/bin/qemu-mipsn32el', cmdline: 'q|/bin/busybox|-sh', expected: 'busybox' },
    { exe: '/usr/bin/qemu-s390x', cmdline: 'q|/bin/sh|-sh|/entrypoint.sh', expected: 'entrypoint.sh' },
    { exe: '/usr/bin/buildkit-qemu-riscv64', cmdline: `q|${NGINX}`, expected: 'nginx' },
    { exe: '/dev/.buildkit_qemu_emulator', cmdline: `q|-0|n|${NGINX}`, expected: 'nginx' },
    { exe: '/usr/bin/qemu-i386', cmdline: 'q|/lib/ld-linux.so.2|/opt/server', expected: 'server' },
    { exe: '/usr/bin/qemu-x86_64-static', cmdline: 'qemu-x86_64-static|-version', expected: 'qemu-x86_64-static' },
    { exe: '/usr/bin/qemu-system-x86_64', cmdline: `q|-drive|${NGINX}`, expected: 'qemu-system-x86_64' },
    { exe: '/usr/bin/qemu-nbd', cmdline: 'qemu-nbd|/srv/disk.img', expected: 'qemu-nbd' },

    { exe: '/run/rosetta/rosetta', cmdline: `r|${NGINX}|nginx|-g|daemon off;`, expected: 'nginx' },
    { exe: '/mnt/lima-rosetta/rosetta', cmdline: 'r|/usr/bin/java|java|-jar|/srv/a.jar', expected: 'a.jar' },
    { exe: '/mnt/lima-rosetta/rosetta', cmdline: 'r|/usr/bin/node|/srv/api.js', expected: 'api.js' },
    { exe: '/usr/local/bin/box64', cmdline: `box64|${NGINX}|-g`, expected: 'nginx' },
    { exe: '/usr/bin/FEXInterpreter', cmdline: `FEXInterpreter|${NGINX}|nginx`, expected: 'nginx' },
    { exe: '/usr/bin/FEXServer', cmdline: `FEXServer|${NGINX}`, expected: 'FEXServer' },
    { exe: '/usr/libexec/valgrind/memcheck-amd64-linux', cmdline: `valgrind|--log-file=x|${NGINX}`, expected: 'nginx' },
    { exe: '/usr/bin/wine64-preloader', cmdline: 'C:\\windows\\system32\\services.exe', expected: 'services.exe' },
    { exe: '/usr/bin/wine-preloader', cmdline: '/usr/bin/wine|/opt/x/Server.exe|-p', expected: 'Server.exe' },
    { exe: '/usr/bin/wineserver', cmdline: 'wineserver|x.exe', expected: 'wineserver' },
    { exe: '/nix/store/a-nginx/bin/.nginx-wrapped', cmdline: 'nginx', expected: 'nginx' },
  ])('$exe with $cmdline is $expected', ({ exe, cmdline, expected }) => {
    expect(nameOf(exe, cmdline.split('|'))).toBe(expected);
  });

  test('a program is named the same with every loader in front of it', () => {
    const loaders = fc.constantFrom(LD, '/lib/ld-musl-x86_64.so.1', '/usr/bin/qemu-x86_64', '/run/rosetta/rosetta');
    const programs = fc.constantFrom(
      [NGINX, '-g', 'x'],
      ['/usr/bin/python3.11', '-m', 'http.server'],
      ['/usr/bin/perl', '-e', '1'],
      ['/usr/bin/lua5.3', 'prosody'],
      ['/bin/busybox', 'nc', '-l'],
    );
    fc.assert(
      fc.property(programs, fc.array(loaders, { maxLength: 3 }), fc.boolean(), (argv, before, isCalled) => {
        const [program = '', ...args] = argv;
        const inner = isCalled ? [program, program.replace(/^.*\//, ''), ...args] : argv;
        const [exe = '', ...chain] = [...before, ...inner];
        const expected = nameOf(program, argv);
        if (before.length > 0) expect(nameOf(exe, [exe, ...chain])).toBe(expected);
      }),
    );
  });
});

describe('an interpreter is named after its script', () => {
  test.each([
    { exe: '/usr/libexec/platform-python3.6', cmdline: 'p|-Es|/usr/sbin/tuned|-l', expected: 'tuned' },
    { exe: '/usr/libexec/platform-python3.6', cmdline: 'p|-c|x', expected: 'python' },
    { exe: '/usr/bin/python3.11-intel64', cmdline: 'p|a.py', expected: 'a.py' },
    { exe: '/usr/bin/node-22', cmdline: 'node|/srv/api.js', expected: 'api.js' },
    { exe: '/usr/bin/mono-sgen', cmdline: 'mono|--debug|/opt/Sonarr/Sonarr.exe|-x', expected: 'Sonarr.exe' },
    { exe: '/usr/bin/mono-sgen64', cmdline: 'mono|--config|/etc/c|/opt/a.exe', expected: 'a.exe' },
    { exe: '/usr/bin/mono-sgen', cmdline: 'mono', expected: 'mono' },
    { exe: '/usr/bin/lua5.3', cmdline: 'lua5.3|/usr/bin/prosody', expected: 'prosody' },
    { exe: '/usr/bin/luajit-2.1.0-beta3', cmdline: 'luajit|-l|strict|-joff|/srv/a.lua', expected: 'a.lua' },
    { exe: '/usr/lib/R/bin/exec/R', cmdline: 'R|--no-echo|--file=/srv/api.R|--args|x', expected: 'api.R' },
    { exe: '/usr/lib/R/bin/exec/R', cmdline: 'R|-f|api.R|--restore', expected: 'api.R' },
    { exe: '/usr/lib/R/bin/exec/R', cmdline: 'R|-e|shiny::runApp()|x.R', expected: 'R' },
    { exe: '/opt/julia/bin/julia', cmdline: 'julia|--project=.|-t|4|/srv/serve.jl', expected: 'serve.jl' },
    { exe: '/usr/bin/guile-3.0', cmdline: 'guile|-L|.|-e|main|-s|/usr/bin/shepherd', expected: 'shepherd' },
    { exe: '/usr/bin/tclsh8.6', cmdline: 'tclsh|-encoding|utf-8|/srv/eggdrop.tcl', expected: 'eggdrop.tcl' },
    { exe: '/usr/bin/wish8.6', cmdline: 'wish|-f|/usr/bin/tkcvs', expected: 'tkcvs' },
    { exe: '/usr/bin/expect', cmdline: 'expect|-c|x|-f|/srv/login.exp', expected: 'login.exp' },
    { exe: '/usr/lib/jvm/21/bin/java', cmdline: 'java|@/etc/a.args|-jar|/srv/a.jar', expected: 'a.jar' },
    { exe: '/usr/lib/jvm/21/bin/java', cmdline: 'java|@/etc/a.args', expected: 'java' },
    { exe: '/usr/bin/jsvc', cmdline: 'jsvc.exec|-java-home|/j|-cp|x|-Dx|org.Tomcat|start', expected: 'org.Tomcat' },
    { exe: '/usr/bin/perl5.36-x86_64-linux-gnu', cmdline: 'perl|/usr/sbin/munin', expected: 'munin' },
    { exe: '/usr/bin/ruby-mri', cmdline: 'ruby|/usr/bin/puppet|agent', expected: 'puppet' },
    { exe: '/usr/bin/php-cli', cmdline: 'php|-q|/srv/artisan', expected: 'artisan' },
    { exe: '/usr/bin/php-cgi8.2', cmdline: 'php-cgi|/srv/a.php', expected: 'php-cgi8.2' },
    { exe: '/usr/bin/fish', cmdline: 'fish|/srv/a.fish', expected: 'a.fish' },
    { exe: '/opt/microsoft/powershell/7/pwsh', cmdline: 'pwsh|-NoProfile|-File|/srv/a.ps1', expected: 'a.ps1' },
    { exe: '/opt/microsoft/powershell/7/pwsh', cmdline: 'pwsh|-Command|./a.ps1', expected: 'pwsh' },
    { exe: '/usr/bin/sbcl', cmdline: 'sbcl|--core|/x.core|--script|/srv/a.lisp', expected: 'a.lisp' },
    { exe: '/usr/bin/swipl', cmdline: 'swipl|-g|main|/srv/a.pl', expected: 'a.pl' },
    { exe: '/usr/bin/gawk', cmdline: 'gawk|-f|/srv/httpd.awk', expected: 'httpd.awk' },
    { exe: '/usr/bin/mawk', cmdline: 'mawk|{ print }|/etc/passwd', expected: 'awk' },
    { exe: '/usr/bin/gjs-console', cmdline: 'gjs|-m|/usr/bin/gnome-weather', expected: 'gnome-weather' },
    { exe: '/usr/bin/moar', cmdline: 'moar|--libpath=x|/l/perl6.moarvm|a.raku', expected: 'a.raku' },
    { exe: '/usr/bin/ocamlrun', cmdline: 'ocamlrun|/usr/bin/unison', expected: 'unison' },
    { exe: '/usr/bin/wasmtime', cmdline: 'wasmtime|run|--dir=.|/srv/a.wasm', expected: 'a.wasm' },
  ])('$exe with $cmdline is $expected', ({ exe, cmdline, expected }) => {
    expect(nameOf(exe, cmdline.split('|'))).toBe(expected);
  });

  const START = 'beam.smp|-W|w|--|-root|/usr/lib/erlang|-progname|erl|--|-home|/root|--|-noshell';
  test.each([
    { name: 'RabbitMQ', cmdline: `${START}|-s|rabbit|boot|-sname|rabbit@host`, expected: 'rabbit' },
    { name: 'ejabberd', cmdline: `${START}|-sname|ejabberd@localhost|-s|ejabberd`, expected: 'ejabberd' },
    { name: 'CouchDB', cmdline: `${START}|-name|couchdb@127.0.0.1|-boot|x`, expected: 'couchdb' },
    {
      name: 'an Elixir release',
      cmdline: `${START}|-s|elixir|start_cli|-mode|embedded|-sname|shop|-extra|--no-halt`,
      expected: 'shop',
    },
    { name: 'mix', cmdline: `${START}|-s|elixir|start_cli|-extra|/usr/bin/mix|phx.server`, expected: 'mix' },
    { name: 'an escript', cmdline: `${START}|-escript|main|x|-extra|/usr/bin/rebar3|as`, expected: 'rebar3' },
    { name: 'a shell', cmdline: START, expected: 'beam.smp' },
  ])('an Erlang machine that runs $name', ({ cmdline, expected }) => {
    expect(nameOf('/usr/lib/erlang/erts-13.2/bin/beam.smp', cmdline.split('|'))).toBe(expected);
  });
});

describe('a file that never had a path', () => {
  test.each([
    { exe: '/memfd:/usr/sbin/sshd (deleted)', expected: 'memfd:/usr/sbin/sshd' },
    { exe: '/memfd:runc_cloned:/proc/self/exe (deleted)', expected: 'memfd:runc_cloned:/proc/self/exe' },
    { exe: '/memfd:payload (deleted)', expected: 'memfd:payload' },
    { exe: '/memfd:x (deleted) (deleted)', expected: 'memfd:x (deleted)' },
    { exe: '/memfd: (deleted)', expected: 'memfd:' },
    { exe: '/memfd:/usr/bin/python3 (deleted)', expected: 'memfd:/usr/bin/python3' },
    { exe: '/memfd:/bin/busybox (deleted)', expected: 'memfd:/bin/busybox' },
    { exe: '/memfd:x/sshd', expected: 'sshd' },
    { exe: '/tmp/#6553712 (deleted)', expected: 'tmpfile' },
    { exe: '/tmp/#6553712', expected: '#6553712' },
  ])('$exe is $expected', ({ exe, expected }) => {
    expect(nameOf(exe, ['sshd', '/usr/sbin/sshd'], 'memfd-x')).toBe(expected);
  });
});

test('arguments do not name a program that runs nothing else', () => {
  fc.assert(
    fc.property(fc.constantFrom('miner', 'ldd', 'qemu-img', 'luac', 'monologue', 'beamish', 'ld'), (program) => {
      for (const argv of [
        ['/lib64/ld-linux-x86-64.so.2', NGINX],
        ['python3', '/srv/app.py'],
        ['-s', 'rabbit'],
      ])
        expect(nameOf(`/opt/${program}`, argv)).toBe(program);
    }),
  );
});

test.each([LD, '/usr/bin/qemu-arm', '/usr/bin/wine', '/opt/beam.smp', '/usr/bin/lua', '/usr/bin/pwsh'])(
  'a very long argument costs %s little',
  (exe) => {
    for (const piece of ['c', '/', '-', '1', '.', '\\', 'a-'])
      for (const argv of [
        ['x', `-${piece.repeat(1 << 16)}!`, 'y'],
        ['x', piece.repeat(1 << 16), piece.repeat(1 << 16)],
        ['x', `.${piece.repeat(1 << 16)}`],
      ])
        expect(nameOf(exe, argv)).not.toBe('');
  },
);
