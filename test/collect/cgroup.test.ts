import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseCgroup } from '../../src/collect/cgroup.ts';
import type { Cgroup } from '../../src/model.ts';
import { workloadOf } from '../../src/enrich/owner-labels.ts';

interface RecordedCase {
  readonly name: string;
  readonly lines: readonly string[];
  readonly expect: {
    readonly kind: Cgroup['kind'];
    readonly runtime: string | null;
    readonly container_id: string | null;
    readonly outer_container_id?: string;
    readonly pod_uid: string | null;
    readonly qos: Cgroup['qos'];
    readonly unit: string | null;
    readonly user?: number;
  };
}

const FIXTURE = new URL('../fixtures/cgroup/cases.json', import.meta.url);
const { cases } = JSON.parse(readFileSync(FIXTURE, 'utf8')) as { cases: RecordedCase[] };

const A = 'a'.repeat(64);
const B = 'b'.repeat(64);
const C = 'c'.repeat(64);
const POD_UID = '6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e';
const NOTHING: Cgroup = {
  kind: 'host',
  runtime: null,
  containerId: null,
  outerContainerId: null,
  podUid: null,
  qos: null,
  unit: null,
};

describe('parseCgroup', () => {
  test('the fixture is complete', () => {
    expect(cases).toHaveLength(65);
  });

  test.each(cases)('recorded: $name', ({ lines, expect: expected }) => {
    const found = parseCgroup(`${lines.join('\n')}\n`);
    expect(found).toEqual({
      login: found.login,
      unitOf: found.unitOf,
      kind: expected.kind,
      runtime: expected.runtime,
      containerId: expected.container_id,
      outerContainerId: expected.outer_container_id ?? null,
      podUid: expected.pod_uid,
      qos: expected.qos,
      unit: expected.unit,
      user: expected.user,
    });
  });

  const CASES: { name: string; text: string; expected: Partial<Cgroup> }[] = [
    {
      name: 'a name below ecs that is too long for an id is none',
      text: `9:hugetlb:/ecs/5509/${'3'.repeat(32)}-${'9'.repeat(128)}`,
      expected: { containerId: null },
    },
    {
      name: 'a podman unit (quadlet) runs its container below the service',
      text: `0::/system.slice/web.service/libpod-payload-${A}/system.slice/nginx.service`,
      expected: { kind: 'container', runtime: 'podman', containerId: A, unit: 'web.service' },
    },
    {
      name: 'a container below the manager of a user’s services is of that user',
      text: `0::/user.slice/user-1000.slice/user@1000.service/libpod-payload-${A}`,
      expected: { kind: 'container', runtime: 'podman', containerId: A, user: 1000, login: 1000 },
    },
    {
      name: 'of three containers in one another the two innermost count',
      text: `0::/docker/${A}/docker/${B}/kubepods/burstable/pod${POD_UID}/${C}`,
      expected: { kind: 'container', containerId: C, outerContainerId: B, podUid: POD_UID, qos: 'burstable' },
    },
    {
      name: 'a container started inside a pod still belongs to the pod',
      text: `0::/kubepods/burstable/pod${POD_UID}/${A}/docker/${B}`,
      expected: {
        kind: 'container',
        runtime: 'docker',
        containerId: B,
        outerContainerId: A,
        podUid: POD_UID,
        qos: 'burstable',
      },
    },
    {
      name: 'a process in the pod but in none of its containers, as of gVisor',
      text: `0::/system.slice/kubelet.service/kubepods/besteffort/pod${POD_UID}`,
      expected: { kind: 'container', podUid: POD_UID, qos: 'besteffort' },
    },
    {
      name: 'conmon of rootless podman is of its user',
      text: `0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-conmon-${A}.scope`,
      expected: { kind: 'runtime-monitor', runtime: 'podman', user: 1000, login: 1000 },
    },
    {
      name: 'units inside a container are its own affair',
      text: `0::/system.slice/docker-${A}.scope/system.slice/nginx.service`,
      expected: { kind: 'container', runtime: 'docker', containerId: A },
    },
    {
      name: 'a container inside LXC is not of the unit that started it',
      text: `0::/lxc/101/ns/system.slice/docker.service/docker/${A}`,
      expected: { kind: 'container', runtime: 'docker', containerId: A, outerContainerId: '101' },
    },
    {
      name: 'a line with a container goes before the v2 line',
      text: `2:cpu:/docker/${A}\n0::/system.slice/containerd.service`,
      expected: { kind: 'container', runtime: 'docker', containerId: A },
    },
    {
      name: 'so does a line with a pod alone',
      text: `2:cpu:/kubepods/pod${POD_UID}\n0::/system.slice/kubelet.service`,
      expected: { kind: 'container', podUid: POD_UID, qos: 'guaranteed' },
    },
    {
      name: 'a name of a runtime that is not known is not guessed',
      text: `0::/machine.slice/newruntime-${A}.scope`,
      expected: { kind: 'container', containerId: A },
    },
    {
      name: '63 digits are no container',
      text: `0::/system.slice/docker-${'a'.repeat(63)}.scope`,
      expected: { kind: 'unit', unit: `docker-${'a'.repeat(63)}.scope` },
    },
    {
      name: 'a unit of a user is of their manager',
      text: '0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Terminal.slice/vte-spawn.scope',
      expected: { kind: 'unit', unit: 'user@1000.service', user: 1000, login: 1000 },
    },
    {
      name: 'an escaped dash is a dash',
      text: '0::/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt/emulator',
      expected: { kind: 'unit', unit: 'machine-qemu-1-vm.scope' },
    },
    {
      name: 'a service of Talos is named by its folder',
      text: '0::/system/apid',
      expected: { kind: 'unit', unit: 'apid' },
    },
    { name: 'a folder that is none of these', text: '0::/user.slice/custom', expected: { kind: 'host' } },
    {
      name: 'hybrid mode with every line at the root',
      text: '9:name=systemd:/\n1:cpu:/\n0::/\n',
      expected: { kind: 'host' },
    },
    { name: 'the reader’s own cgroup, or the root', text: '0::/\n', expected: { kind: 'unknown' } },
    { name: 'an empty file', text: '', expected: { kind: 'unknown' } },
    { name: 'no such file', text: 'cgroup?\n0:/system.slice/x.service', expected: { kind: 'unknown' } },
  ];

  test.each(CASES)('$name', ({ text, expected }) => {
    expect(parseCgroup(text)).toEqual({ ...NOTHING, ...expected });
  });

  test('parses any text, to ids of the right format', () => {
    const segment = fc.oneof(
      fc.constantFrom(
        '..',
        '',
        'docker',
        'lxc',
        'ecs',
        'kubepods',
        'burstable',
        'system',
        'a.service',
        A,
        `pod${POD_UID}`,
      ),
      fc.constantFrom(
        `crio-conmon-${B}.scope`,
        `pod${POD_UID}:cri-containerd:${C}`,
        'lxc.payload.x',
        'session-1.scope',
      ),
      fc.string(),
    );
    const line = fc
      .tuple(fc.constantFrom('0:', '1:name=systemd', '2:cpu'), fc.array(segment))
      .map(([start, path]) => `${start}:/${path.join('/')}`);
    fc.assert(
      fc.property(fc.array(fc.oneof(line, fc.string())), (lines) => {
        const cgroup = parseCgroup(lines.join('\n'));
        expect(workloadOf(cgroup).isWellFormed()).toBe(true);
        expect(cgroup.containerId !== '' && cgroup.unit !== '').toBe(true);
        if (cgroup.kind === 'host' || cgroup.kind === 'unknown')
          expect(cgroup).toEqual({ ...NOTHING, kind: cgroup.kind });
      }),
    );
  });
});

describe('whoever a folder was handed over to names nothing of others', () => {
  const USER = '/user.slice/user-1000.slice/user@1000.service';
  const POD = `/kubepods.slice/kubepods-pod${POD_UID.replaceAll('-', '_')}.slice/cri-containerd-${A}.scope`;
  const OTHER = '11111111-2222-3333-4444-555555555555';
  const OTHER_POD = `kubepods-burstable-pod${OTHER.replaceAll('-', '_')}.slice/cri-containerd-${B}.scope`;

  test.each([
    'app.slice/nginx.service',
    'app.slice/sshd.service/nginx.service',
    'session-1.scope',
    'user@0.service/nginx.service',
    OTHER_POD,
    `kubepods.slice/${OTHER_POD}`,
    `kubepods/burstable/pod${OTHER}/${B}`,
    `kubepods-burstable-pod${OTHER}.slice:cri-containerd:${B}`,
    `system.slice/docker-${B}.scope`,
    `docker/${B}`,
    `ecs/${B}`,
    'lxc.payload.web/system.slice/nginx.service',
    'machine-w.scope/payload/system.slice/nginx.service',
    'systemd-nspawn@web.service/supervisor',
    `libpod-conmon-${B}.scope`,
    'podruntime/kubelet',
  ])('%s of user 1000 is theirs', (path) => {
    const cgroup = parseCgroup(`0::${USER}/${path}\n`);
    expect(workloadOf(cgroup)).toBe('uid:1000');
    expect(cgroup).toMatchObject({ podUid: null, user: 1000 });
    expect([null, 'user@1000.service']).toContain(cgroup.unit);
  });

  test('a user who moves in one hierarchy only is still that user', () => {
    const text = `9:name=systemd:${USER}/${OTHER_POD}\n0::${USER}/init.scope\n`;
    expect(parseCgroup(text)).toMatchObject({ podUid: null, user: 1000 });
  });

  test.each([
    { path: `${POD}/kubepods/burstable/pod${OTHER}/${B}`, expected: { podUid: POD_UID, outerContainerId: A } },
    { path: `${POD}/${OTHER_POD}`, expected: { podUid: POD_UID, outerContainerId: A } },
    { path: `${POD}/docker/${B}/docker/${C}`, expected: { podUid: POD_UID, outerContainerId: A, containerId: C } },
    { path: '/system.slice/runner.service/nginx.service', expected: { unit: 'runner.service' } },
    { path: '/system.slice/runner.service/user@1000.service', expected: { unit: 'runner.service' } },
    { path: `/system.slice/runner.service/${OTHER_POD}`, expected: { unit: 'runner.service', podUid: null } },
    {
      path: `/system.slice/runner.service/kubepods/pod${OTHER}/${B}`,
      expected: { unit: 'runner.service', podUid: null },
    },
    { path: `/system.slice/runner.service/docker/${B}`, expected: { unit: 'runner.service', podUid: null } },
    { path: `/system.slice/runner.service/libpod-conmon-${B}.scope`, expected: { unit: 'runner.service' } },
    { path: '/system.slice/runner.service/lxc.payload.x/nginx.service', expected: { unit: 'runner.service' } },
    { path: '/system.slice/runner.service/machine-w.scope/payload/a.service', expected: { unit: 'runner.service' } },
    { path: `/system.slice/docker-${A}.scope/lxc.payload.x/nginx.service`, expected: { unit: null, containerId: A } },
    { path: '/system.slice/runner.service/podruntime/kubelet', expected: { unit: 'runner.service' } },
    { path: `/user.slice/user-1000.slice/session-1.scope/${OTHER_POD}`, expected: { podUid: null } },
    { path: '/user.slice/user-1000.slice/session-1.scope/nginx.service', expected: { unit: 'session-1.scope' } },
    { path: '/user.slice/user-1000.slice/session-1.scope', expected: { login: 1000 } },
    { path: '/../../user.slice/user-1000.slice/session-1.scope', expected: { login: 1000 } },
    { path: '/lxc/a/docker/b/lxc/c/nginx.service', expected: { unitOf: 'a', outerContainerId: 'a' } },
    { path: `/docker/${A}/docker/${B}/docker/${C}`, expected: { outerContainerId: A, containerId: C } },
    { path: `/custom/pod${OTHER}/${B}`, expected: { podUid: null, containerId: B } },
  ])('$path', ({ path, expected }) => {
    expect(parseCgroup(`0::${path}\n`)).toMatchObject(expected);
  });
});

test.each([
  '/system.slice/runner.service/user.slice/user-0.slice',
  `/system.slice/docker-${A}.scope/user.slice/user-0.slice/session-1.scope`,
  '/user.slice/user-1000.slice/user@1000.service/user.slice/user-0.slice',
])('%s is not a login of root', (path) => {
  expect(parseCgroup(`0::${path}\n`).login).not.toBe(0);
});

describe('containers that run a system have a name', () => {
  test.each([
    { path: '/machine.slice/systemd-nspawn@web.service/payload/system.slice/nginx.service', id: 'web' },
    { path: '/machine.slice/systemd-nspawn@web\\x2d1.service/payload/system.slice/nginx.service', id: 'web-1' },
    { path: '/system.slice/systemd-nspawn@web.service/system.slice/nginx.service', id: 'web' },
    { path: '/machine.slice/container@web.service/payload/system.slice/nginx.service', id: 'web' },
    { path: '/machine.slice/container@web.service/system.slice/nginx.service', id: 'web' },
    { path: '/machine.slice/machine-web.scope/payload/system.slice/nginx.service', id: 'web' },
    { path: '/machine.slice/machine-a\\x2db.scope/system.slice/nginx.service', id: 'a-b' },
    { path: '/machine.slice/machine-qemu.scope/payload/system.slice/nginx.service', id: 'qemu' },
    { path: '/system.slice/web.service/payload/system.slice/nginx.service', id: 'web' },
    {
      path: '/machine.slice/machine-lxc\\x2d42\\x2dweb.scope/system.slice/nginx.service',
      id: 'web',
      by: 'libvirt-lxc',
    },
    { path: '/machine.slice/machine-lxc\\x2dweb.scope/system.slice/nginx.service', id: 'web', by: 'libvirt-lxc' },
    { path: '/machine/lxc-42-web.libvirt-lxc/system.slice/nginx.service', id: 'web', by: 'libvirt-lxc' },
    { path: '/machine/web.libvirt-lxc/system.slice/nginx.service', id: 'web', by: 'libvirt-lxc' },
    { path: '/lxc.payload/web/system.slice/nginx.service', id: 'web', by: 'lxc' },
  ])('$path is in $id', ({ path, id, by = 'systemd-nspawn' }) => {
    const expected = { kind: 'container', runtime: by, containerId: id, unit: 'nginx.service', unitOf: id };
    expect(parseCgroup(`0::${path}\n`)).toEqual({ ...NOTHING, ...expected });
  });

  test.each([
    { path: '/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt/emulator', unit: 'machine-qemu-1-vm.scope' },
    { path: '/machine.slice/machine-vm.scope', unit: 'machine-vm.scope' },
    { path: '/system.slice/container@web.service', unit: 'container@web.service' },
  ])('$path is the unit $unit', ({ path, unit }) => {
    expect(parseCgroup(`0::${path}\n`)).toEqual({ ...NOTHING, kind: 'unit', unit });
  });

  test.each(['systemd-nspawn@web.service', 'container@web.service', 'machine-web.scope'])(
    'systemd-nspawn itself is not in the container of %s',
    (unit) => {
      const expected = { kind: 'runtime-monitor', runtime: 'systemd-nspawn' };
      expect(parseCgroup(`0::/machine.slice/${unit}/supervisor\n`)).toEqual({ ...NOTHING, ...expected });
    },
  );

  test('a container of Docker inside has its id', () => {
    const path = `/machine.slice/machine-web.scope/payload/system.slice/docker-${A}.scope`;
    const expected = { kind: 'container', runtime: 'docker', containerId: A, outerContainerId: 'web' };
    expect(parseCgroup(`0::${path}\n`)).toEqual({ ...NOTHING, ...expected });
  });
});

describe('workloadOf', () => {
  const WORKLOADS = [
    { path: '/system.slice/nginx.service', expected: 'nginx.service' },
    { path: '/system.slice/postgresql-15.service', expected: 'postgresql-15.service' },
    { path: '/system.slice/system-postgresql.slice/postgresql@9.4-main.service', expected: 'postgresql.service' },
    { path: '/system.slice/sshd@12-192.0.2.1:22-198.51.100.7:51514.service', expected: 'sshd.service' },
    { path: '/user.slice/user-1000.slice/user@1000.service', expected: 'uid:1000' },
    { path: '/user.slice/user-1000.slice/session-12.scope', expected: 'session.scope' },
    { path: '/user.slice/user-42.slice/session-c2.scope', expected: 'session.scope' },
    { path: '/system.slice/run-u123.service', expected: 'run.service' },
    { path: '/system.slice/run-r0123456789abcdef0123456789abcdef.scope', expected: 'run.scope' },
    { path: '/system.slice/run-p4711-i815.scope', expected: 'run.scope' },
    {
      path: '/app.slice/snap.firefox.firefox-9b2f8f5e-2a5d-4b5e-8a86-0f5b7a3f9f10.scope',
      expected: 'snap.firefox.firefox.scope',
    },
    { path: '/app.slice/app-gnome-code-4242.scope', expected: 'app-gnome-code.scope' },
    { path: '/machine.slice/machine-qemu\\x2d1\\x2dvm.scope', expected: 'machine-qemu-vm.scope' },
    { path: '/machine.slice/machine-qemu\\x2d1\\x2dweb\\x2d2.scope', expected: 'machine-qemu-web-2.scope' },
    {
      path: '/machine.slice/machine-qemu\\x2d5\\x2dinstance\\x2d0000002a.scope',
      expected: 'machine-qemu-instance.scope',
    },
    { path: '/init.scope', expected: 'init.scope' },
    { path: '/system.slice/foo-2.service', expected: 'foo-2.service' },
    { path: '/system.slice/java-deadbeef.service', expected: 'java-deadbeef.service' },
    { path: `/nomad.slice/share.slice/${POD_UID}.redis.scope`, expected: 'redis.scope' },
    { path: `/nomad.slice/${POD_UID.toUpperCase()}.web-server.scope`, expected: 'web-server.scope' },
    { path: `/system.slice/ceph-${POD_UID}@osd.1.service`, expected: 'ceph.service' },
    { path: `/system.slice/build-${A}.service`, expected: 'build.service' },
    {
      path: '/app.slice/dbus-:1.17-org.gnome.Nautilus@0.service',
      expected: 'dbus-org.gnome.Nautilus.service',
    },
    {
      path: '/app.slice/app-org.kde.kate@1f3a.service',
      expected: 'app-org.kde.kate.service',
    },
    {
      path: '/app.slice/app-flatpak-org.x.Y-88.scope',
      expected: 'app-flatpak-org.x.Y.scope',
    },
    { path: '/app.slice/app-gnome-my\\x20app-88.scope', expected: 'app-gnome-my app.scope' },
    { path: '/app.slice/python3.11-4242.scope', expected: 'python3.11.scope' },
    { path: '/app.slice/12345.pts.scope', expected: 'pts.scope' },
    { path: '/app.slice/12345.scope', expected: 'scope' },
    { path: `/system.slice/web.service/libpod-payload-${A}`, expected: 'web.service' },
    { path: '/machine.slice/systemd-nspawn@web.service/payload', expected: 'systemd-nspawn' },
    { path: '/podruntime/kubelet', expected: 'kubelet' },
    { path: `/system.slice/docker-${A}.scope`, expected: 'docker' },
    { path: `/kubepods/pod${POD_UID}/${A}`, expected: '' },
    { path: `/machine.slice/libpod-conmon-${A}.scope`, expected: 'podman' },
    { path: '/lxc.payload.first/system.slice/cron.service', expected: 'first/cron.service' },
    { path: '/app.slice/a\x1b[31m.service', expected: 'a�[31m.service' },
    { path: '/../../..', expected: '' },
    { path: '/', expected: '' },
  ];

  test.each(WORKLOADS)('$path is of "$expected"', ({ path, expected }) => {
    expect(workloadOf(parseCgroup(`0::${path}\n`))).toBe(expected);
  });

  const hex = (length: number): fc.Arbitrary<string> =>
    fc.string({ unit: fc.nat({ max: 15 }).map((digit) => digit.toString(16)), minLength: length, maxLength: length });
  const [pid, number] = [fc.integer({ min: 100, max: 4_194_304 }), fc.nat({ max: 99_999 })];
  const GENERATED = {
    uuid: fc.uuid(),
    id: fc.oneof(hex(8), hex(32)),
    pid: pid.map(String),
    counter: fc.oneof(
      number.map(String),
      number.map((n) => `u${n}`),
      number.map((n) => `c${n}`),
    ),
  };
  test.each<{ unit: string; part: keyof typeof GENERATED; expected: string }>([
    { unit: '*.redis.scope', part: 'uuid', expected: 'redis.scope' },
    { unit: 'snap.firefox.firefox.*.scope', part: 'uuid', expected: 'snap.firefox.firefox.scope' },
    { unit: 'snap.firefox.firefox-*.scope', part: 'uuid', expected: 'snap.firefox.firefox.scope' },
    { unit: 'vte-spawn-*.scope', part: 'uuid', expected: 'vte-spawn.scope' },
    { unit: 'a_*_b.scope', part: 'uuid', expected: 'a_b.scope' },
    { unit: 'job-*.service', part: 'uuid', expected: 'job.service' },
    { unit: '*-job.scope', part: 'id', expected: 'job.scope' },
    { unit: 'run-r*.scope', part: 'id', expected: 'run.scope' },
    { unit: 'podman-pause-*.scope', part: 'id', expected: 'podman-pause.scope' },
    { unit: 'app-gnome-org.gnome.Terminal-*.scope', part: 'pid', expected: 'app-gnome-org.gnome.Terminal.scope' },
    { unit: 'apptainer-*.scope', part: 'pid', expected: 'apptainer.scope' },
    { unit: 'kitty-*-0.scope', part: 'pid', expected: 'kitty.scope' },
    { unit: 'tmux.*.scope', part: 'pid', expected: 'tmux.scope' },
    { unit: '*.pts.scope', part: 'pid', expected: 'pts.scope' },
    { unit: 'session-*.scope', part: 'counter', expected: 'session.scope' },
    { unit: 'getty@*.service', part: 'counter', expected: 'getty.service' },
    { unit: 'run-*.service', part: 'counter', expected: 'run.service' },
    { unit: 'run-p*-i815.scope', part: 'pid', expected: 'run.scope' },
    { unit: 'app-org.kde.kate@*.service', part: 'id', expected: 'app-org.kde.kate.service' },
    { unit: 'dbus-:1.*-org.x@0.service', part: 'pid', expected: 'dbus-org.x.service' },
    { unit: 'machine-qemu-*-web-2.scope', part: 'pid', expected: 'machine-qemu-web-2.scope' },
  ])('instances of $unit have the workload $expected', ({ unit, part, expected }) => {
    fc.assert(
      fc.property(GENERATED[part], (generated) => {
        const path = `/a.slice/${unit.replace('*', generated)}`;
        for (const escaped of [path, path.replaceAll('-', '\\x2d')])
          expect(workloadOf(parseCgroup(`0::${escaped}\n`))).toBe(expected);
      }),
    );
  });

  test.each([
    { containerName: 'web', expected: 'web' },
    { containerName: 'shop_web_2', expected: 'shop_web_2' },
    { containerName: 'shop-web-2', expected: 'shop-web' },
    { containerName: '0123456789ab-infra', expected: 'infra' },
    { containerName: 'zen_turing', expected: 'podman' },
    { containerName: 'zen_turing4', expected: 'podman' },
    { containerName: 'web', unit: 'container-web.service', expected: 'container-web.service' },
  ])('a container of Podman with the name $containerName is of $expected', ({ expected, ...more }) => {
    expect(workloadOf({ ...NOTHING, kind: 'container', runtime: 'podman', containerId: A, ...more })).toBe(expected);
  });
});
