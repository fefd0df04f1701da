import { cleanLabel } from '../common/sanitize.ts';
import type { Cgroup } from '../model.ts';

const RUNTIMES: ReadonlyMap<string, string> = new Map([
  ['cri-containerd', 'containerd'],
  ['containerd', 'containerd'],
  ['nerdctl', 'containerd'],
  ['crio', 'crio'],
  ['docker', 'docker'],
  ['libpod', 'podman'],
  ['libpod-payload', 'podman'],
]);

const POD =
  /^((?:.*-)?kubepods-)?(?:(besteffort|burstable)-)?pod([0-9a-f]{32}|[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(?:\.slice)?$/;
const MONITOR = /^(?:(.+)-conmon-[0-9a-f]{64}(?:\.scope)?|lxc\.monitor\..+)$/;
const ID = /^(?:(.+)-)?([0-9a-f]{64})(?:\.scope)?$/;
const COLON_FORM = /^([^:]*):([^:]*):([0-9a-f]{64})$/;
const FARGATE_ID = /^[0-9a-f]{32}-\d{1,20}$/;
const LXC_PAYLOAD = /^lxc\.payload\.(.+)$/;
const SESSION = /^session-.*\.scope$|\.session$/;

type Found = { -readonly [Key in keyof Cgroup]: Cgroup[Key] };

/**
 * Parses /proc/PID/cgroup. Never throws.
 *
 * `kind` is `container` in a container or elsewhere in a pod, `runtime-monitor` for conmon and similar, `session` for a login,
 * `unit` for a systemd unit (or a service of Talos), `host` for none of these, and `unknown` for a single line `0::/`: this is the own
 * cgroup of a reader with a private cgroup namespace, and the root of the host otherwise. Paths relative to the reader ("/../..") are
 * supported. The `podUid` of a static pod is the hash of its configuration.
 *
 * Lines: cgroups(7), cgroup_namespaces(7). Paths: runc and crun, kubelet, CRI-O, containerd, docker, podman, LXC, ECS.
 */
export function parseCgroup(text: string): Cgroup {
  const lines = text.split('\n').flatMap((line) => {
    const match = /^\d+:([^:]*):(\/.*)$/s.exec(line);
    return match ? [{ controllers: match[1] ?? '', path: (match[2] ?? '').replace(/ \(deleted\)$/, '') }] : [];
  });
  const only = lines[0];
  if (!only || (lines.length === 1 && only.controllers === '' && only.path === '/'))
    return { ...NOTHING, kind: 'unknown' };

  // With cgroup v1 some hierarchies stay at "/". In hybrid mode the v2 line may name the service of the runtime itself.
  let best = NOTHING;
  let bestWeight = 0;
  for (const { controllers, path } of lines) {
    const found = parsePath(path);
    const keptBySystemd = controllers === '' || controllers === 'name=systemd';
    const weight =
      (found.containerId ? 8 : 0) + (found.podUid ? 4 : 0) + (found.kind === 'host' ? 0 : keptBySystemd ? 2 : 1);
    if (weight > bestWeight) [best, bestWeight] = [found, weight];
  }
  return best;
}

/**
 * Returns the parser for a reader. If the cgroup of pid 1 is above the root of the reader, the reader has a cgroup namespace of its own,
 * and a single line `0::/` is its own container: in the pod with uid `ownPodUid`, if known.
 */
export function cgroupParser(ofPid1: string, ownPodUid: string | null): (text: string) => Cgroup {
  const isNamespaced = /^\d+:[^:]*:\/\.\.(?:\/|$)/m.test(ofPid1);
  if (!isNamespaced || ownPodUid === null) return parseCgroup;
  const own: Cgroup = { ...NOTHING, kind: 'container', podUid: ownPodUid };
  return (text) => {
    const cgroup = parseCgroup(text);
    return cgroup.kind === 'unknown' ? own : cgroup;
  };
}

const NOTHING: Cgroup = {
  kind: 'host',
  runtime: null,
  containerId: null,
  outerContainerId: null,
  podUid: null,
  qos: null,
  unit: null,
};

function parsePath(path: string): Cgroup {
  const found: Found = { ...NOTHING };
  const segments = path.split('/');
  for (const [i, segment] of segments.entries()) {
    const previous = segments[i - 1] ?? '';
    const colons = COLON_FORM.exec(segment);
    if (colons) {
      enterPod(found, colons[1] ?? '', previous);
      enterContainer(found, colons[3] ?? '', RUNTIMES.get(colons[2] ?? '') ?? null);
      continue;
    }
    if (enterPod(found, segment, previous)) continue;
    const monitor = MONITOR.exec(segment);
    if (monitor) {
      found.kind = 'runtime-monitor';
      found.runtime = RUNTIMES.get(monitor[1] ?? '') ?? null;
      found.unit = null;
      continue;
    }
    const belowEcs = segments.slice(0, i).includes('ecs');
    const id = ID.exec(segment);
    const payload = previous === 'lxc' ? segment : LXC_PAYLOAD.exec(segment)?.[1];
    if (id) {
      const bare = previous === 'docker' ? 'docker' : belowEcs ? 'ecs' : null;
      enterContainer(found, id[2] ?? '', id[1] === undefined ? bare : (RUNTIMES.get(id[1]) ?? null));
    } else if (belowEcs && FARGATE_ID.test(segment)) enterContainer(found, segment, 'ecs');
    else if (payload !== undefined && payload !== '') enterContainer(found, cleanLabel(payload), 'lxc');
    else enterUnit(found, segment, previous);
  }
  return found;
}

function enterPod(found: Found, segment: string, previous: string): boolean {
  const pod = POD.exec(segment);
  if (!pod) return false;
  const qos = pod[2] ?? previous;
  const below = pod[1] !== undefined || previous === 'kubepods';
  found.kind = 'container';
  found.podUid = (pod[3] ?? '').replaceAll('_', '-');
  found.qos = qos === 'besteffort' || qos === 'burstable' ? qos : below ? 'guaranteed' : null;
  found.unit = null;
  return true;
}

function enterContainer(found: Found, id: string, runtime: string | null): void {
  found.kind = 'container';
  found.outerContainerId = found.containerId;
  found.containerId = id;
  found.runtime = runtime;
  found.unit = null;
}

/** Keeps the deepest unit of a path. Units inside a container are ignored, except in LXC, where the container is a system. */
function enterUnit(found: Found, segment: string, previous: string): void {
  const insideLxc = found.kind === 'container' && found.runtime === 'lxc';
  if ((found.kind === 'container' && !insideLxc) || found.kind === 'runtime-monitor') return;
  const session = SESSION.test(segment);
  const talos = previous === 'podruntime' || previous === 'system';
  if (/\.(?:service|scope)$/.test(segment) || (talos && segment !== '')) found.unit = segment.replaceAll('\\x2d', '-');
  else if (!session) return;
  if (!insideLxc) found.kind = session ? 'session' : 'unit';
}
