import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parseConmon } from '../../src/collect/conmon.ts';
import { Processes } from '../../src/collect/processes.ts';
import { Procfs } from '../../src/collect/procfs.ts';
import { OwnerLabeler } from '../../src/enrich/owner-labels.ts';

const ID = 'a'.repeat(64);
const OTHER = 'b'.repeat(64);
const CONMON = ['/usr/bin/conmon', '--api-version', '1', '-c', ID, '-u', ID, '-n', 'web', '--exit-dir', '/run/x'];

describe('the arguments of conmon name a container', () => {
  test.each([
    { name: 'of Podman', args: CONMON, expected: { containerId: ID, containerName: 'web' } },
    { name: 'long options', args: ['conmon', '--cid', ID, '--name=web'], expected: { containerName: 'web' } },
    { name: 'another program', args: ['/usr/bin/conmon-fake', ...CONMON.slice(1)], expected: null },
    { name: 'no name', args: ['conmon', '-c', ID], expected: null },
    { name: 'no value', args: ['conmon', '-c', ID, '-n'], expected: null },
    { name: 'nothing', args: [], expected: null },
  ])('$name', ({ args, expected }) => {
    if (expected === null) expect(parseConmon(args)).toBeNull();
    else expect(parseConmon(args)).toMatchObject(expected);
  });
});

interface Recorded {
  readonly ppid: number;
  readonly cgroup: string;
  readonly cmdline: readonly string[];
}

/** Returns the labels of process 300 in a tree of processes, after those of the processes `before` it. */
function labelsIn(processes: Readonly<Record<number, Recorded>>, before: readonly number[] = []): unknown {
  const root = mkdtempSync(join(tmpdir(), 'peerscope-conmon-'));
  onTestFinished(() => rmSync(root, { recursive: true }));
  for (const [pid, { ppid, cgroup, cmdline }] of Object.entries(processes)) {
    mkdirSync(join(root, pid));
    const write = (name: string, text: string): void => writeFileSync(join(root, pid, name), text);
    write('stat', `${pid} (x) S ${ppid} 1 1 0 -1 0 0 0 0 0 0 5 0 0 20 0 1 0 1000 0 1 ${'0 '.repeat(28)}0\n`);
    write('cgroup', `0::${cgroup}\n`);
    write('cmdline', `${cmdline.join('\0')}\0`);
  }
  const labeler = new OwnerLabeler();
  const known = new Processes(new Procfs(root), [], (name, cgroup) => labeler.labelsOf(name, cgroup));
  known.begin([...before, 300]);
  for (const pid of before) known.get(pid, 0);
  return known.get(300, 0)?.labels;
}

describe('a container of Podman goes by its name', () => {
  const SCOPE = `/machine.slice/libpod-${ID}.scope/container`;
  const monitor = { ppid: 1, cgroup: `/machine.slice/libpod-conmon-${ID}.scope`, cmdline: CONMON };
  const init = { ppid: 100, cgroup: SCOPE, cmdline: ['sh'] };
  const worker = { ppid: 200, cgroup: SCOPE, cmdline: ['nginx'] };
  const BY_ID = { workload: 'podman', container: 'aaaaaaaaaaaa' };

  test.each([
    {
      name: 'in a scope',
      processes: { 100: monitor, 200: init, 300: worker },
      expected: { workload: 'web', container: 'web' },
    },
    {
      name: 'as its first process',
      processes: { 100: monitor, 300: init },
      expected: { workload: 'web', container: 'web' },
    },
    {
      name: 'and by the unit that runs it',
      processes: { 100: { ...monitor, cgroup: '/system.slice/container-web.service' }, 200: init, 300: worker },
      expected: { workload: 'container-web.service', container: 'web' },
    },
    {
      name: 'but not by the login that started it',
      processes: { 100: { ...monitor, cgroup: '/user.slice/session-3.scope' }, 200: init, 300: worker },
      expected: { workload: 'web', container: 'web' },
    },
    {
      name: 'but not by that of a process inside the container that pretends to be conmon',
      processes: { 200: { ...init, ppid: 0, cmdline: CONMON }, 300: worker },
      expected: BY_ID,
    },
    {
      name: 'but not by that of a process in another container',
      processes: { 100: { ...monitor, cgroup: `/docker/${OTHER}` }, 200: init, 300: worker },
      expected: BY_ID,
    },
    {
      name: 'but not by that of another container',
      processes: { 100: { ...monitor, cmdline: ['conmon', '-c', OTHER, '-n', 'web'] }, 200: init, 300: worker },
      expected: BY_ID,
    },
    {
      name: 'cleaned',
      processes: { 100: { ...monitor, cmdline: ['conmon', '-c', ID, '-n', 'a\x1b[2J'] }, 200: init, 300: worker },
      expected: { container: 'a�[2J' },
    },
    { name: 'unless conmon is gone', processes: { 300: { ...worker, ppid: 1 } }, expected: BY_ID },
    {
      name: 'unless its parents are a circle',
      processes: { 200: { ...init, ppid: 300 }, 300: worker },
      expected: BY_ID,
    },
    {
      name: 'unless it belongs to a pod',
      processes: {
        100: monitor,
        300: { ...worker, ppid: 100, cgroup: `/kubepods/pod6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e/libpod-${ID}` },
      },
      expected: BY_ID,
    },
  ])('$name', ({ processes, expected }) => expect(labelsIn(processes)).toMatchObject(expected));

  test.each([
    { name: 'under another name', cmdline: ['conmon', '-c', ID, '-n', 'evil'] },
    { name: 'without a name', cmdline: ['bash'] },
  ])('even if a user gave its id to another cgroup before, $name', ({ cmdline }) => {
    const user = '/user.slice/user-1000.slice/user@1000.service';
    const labels = labelsIn(
      {
        40: { ppid: 1, cgroup: `${user}/app.slice`, cmdline },
        50: { ppid: 40, cgroup: `${user}/libpod-${ID}.scope`, cmdline: ['nc'] },
        100: monitor,
        300: init,
      },
      [50],
    );
    expect(labels).toMatchObject({ workload: 'web', container: 'web' });
  });
});
