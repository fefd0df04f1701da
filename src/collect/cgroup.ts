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
/** Containers of libvirt: a scope with the driver, a counter and the name, or a folder where systemd does not run. */
const LIBVIRT_LXC = /^(?:machine-lxc-(?:\d+-)?(.+)\.scope|(?:lxc-\d+-)?(.+)\.libvirt-lxc)$/;
/** Units of systemd-nspawn: of machinectl, of NixOS, and of the command. Virtual machines have such scopes too. */
const NSPAWN_SERVICE = /^(?:systemd-nspawn|container)@(.+)\.service$/;
const NSPAWN_SCOPE = /^machine-(.+)\.scope$/;
const UNIT = /^(.+)\.(?:service|scope)$/;
/** Runtimes whose containers run a system of their own, with units. */
const SYSTEMS: ReadonlySet<string | null> = new Set(['lxc', 'libvirt-lxc', 'systemd-nspawn']);
const SESSION = /^session-.*\.scope$|\.session$/;
/** The manager of a user's services: systemd hands over everything below it to that user. */
const USER_MANAGER = /^user@(\d{1,10})\.service$/;
/** What a user started at logins. Below the slice of all users, only systemd makes such folders. */
const USER_SLICE = /^user-(\d{1,10})\.slice$/;
/** Services below which runtimes put pods, if they do not ask systemd to: `system.slice/containerd.service/kubepods-…:cri-containerd:…`. */
const RUNTIME_SERVICE =
  /^(?:containerd|crio|cri-o|cri-docker|docker|kubelet|k3s|k3s-agent|rke2-server|rke2-agent|k0s\w*|snap\.(?:microk8s|docker)\..+)\.service$/;
/** The folder of all pods: `kubepods`, `kubepods.slice`, `kubelet-kubepods.slice`. */
const POD_ROOT = /^(?:.+-)?kubepods(?:\.slice)?$/;

type Found = { -readonly [Key in keyof Cgroup]: Cgroup[Key] };

/** Where in the path the parser is. */
interface Place {
  readonly segments: readonly string[];
  i: number;
  /** Whether kubelet may have made this folder. */
  mayHoldPods: boolean;
  /** Containers in the pod, above one another. */
  depth: number;
}

/**
 * Parses /proc/PID/cgroup. Never throws.
 *
 * `kind` is `container` in a container or elsewhere in a pod, `runtime-monitor` for conmon and similar, `session` for a login,
 * `unit` for a systemd unit (or a service of Talos), `host` for none of these, and `unknown` for a single line `0::/`: this is the own
 * cgroup of a reader with a private cgroup namespace, and the root of the host otherwise. Paths relative to the reader ("/../..") are
 * supported. The `podUid` of a static pod is the hash of its configuration. The `containerId` of LXC, libvirt-lxc and systemd-nspawn is
 * the name.
 *
 * A user or container can give any name to a folder below one that was handed over to them. So the outermost name counts: everything
 * below `user@1000.service` is of user 1000, everything below another unit or a login is of that one, and everything inside a pod is of
 * that pod. Containers may be below a unit, without becoming part of a pod.
 *
 * Lines: cgroups(7), cgroup_namespaces(7). Paths: runc and crun, kubelet, CRI-O, containerd, docker, podman, LXC, libvirt, systemd-nspawn,
 * ECS.
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
      (found.containerId && found.user === undefined ? 8 : 0) +
      (found.podUid ? 4 : 0) +
      (found.kind === 'host' ? 0 : keptBySystemd ? 2 : 1);
    if (weight > bestWeight) [best, bestWeight] = [found, weight];
  }
  return best;
}

/** Returns the path of a process in /proc/PID/cgroup: that of cgroup v2 or systemd, unless only others have one. */
export function cgroupPath(text: string): string {
  const lines = text.split('\n').flatMap((line) => {
    const [, controllers = '', path = ''] = /^\d+:([^:]*):(\/.*)$/s.exec(line) ?? [];
    return path === '' ? [] : [{ bySystemd: controllers === '' || controllers === 'name=systemd', path }];
  });
  const inOrder = [...lines.filter(({ bySystemd }) => bySystemd), ...lines];
  return (inOrder.find(({ path }) => path !== '/')?.path ?? '/').slice(0, 4096);
}

/**
 * Returns the parser for a reader. If the cgroup of pid 1 is above the root of the reader, the reader has a cgroup namespace of its own,
 * and a single line `0::/` is its own container: in the pod with uid `ownPodUid`, if known.
 */
export function cgroupParser(ofPid1: string, ownPodUid: string | null): (text: string) => Cgroup {
  if (!isNamespaced(ofPid1) || ownPodUid === null) return parseCgroup;
  const own: Cgroup = { ...NOTHING, kind: 'container', podUid: ownPodUid };
  return (text) => {
    const cgroup = parseCgroup(text);
    return cgroup.kind === 'unknown' ? own : cgroup;
  };
}

/** Says whether the reader has a cgroup namespace of its own, by the cgroup of pid 1. */
export function isNamespaced(ofPid1: string): boolean {
  return /^\d+:[^:]*:\/\.\.(?:\/|$)/m.test(ofPid1);
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
  const place: Place = { segments: path.split('/'), i: 0, mayHoldPods: true, depth: 0 };
  let belowEcs = false;
  for (const [i, segment] of place.segments.entries()) {
    place.i = i;
    const previous = place.segments[i - 1] ?? '';
    belowEcs ||= previous === 'ecs';
    const login = previous === 'user.slice' ? USER_SLICE.exec(segment)?.[1] : undefined;
    if (login !== undefined && place.segments.slice(0, i - 1).every((name) => name === '' || name === '..')) {
      found.login = Number(login);
      continue;
    }
    const colons = COLON_FORM.exec(segment);
    if (colons) {
      enterPod(found, colons[1] ?? '', place);
      enterContainer(found, colons[3] ?? '', RUNTIMES.get(colons[2] ?? '') ?? null, place);
      continue;
    }
    if (enterPod(found, segment, place) || enterSystem(found, place)) continue;
    const monitor = MONITOR.exec(segment);
    if (monitor) {
      found.kind = 'runtime-monitor';
      found.runtime = RUNTIMES.get(monitor[1] ?? '') ?? null;
      leaveUnit(found);
      continue;
    }
    const id = ID.exec(segment);
    const mayBeLxc = found.kind !== 'container' || SYSTEMS.has(found.runtime);
    const belowLxc = mayBeLxc && (previous === 'lxc' || previous === 'lxc.payload');
    const payload = belowLxc ? segment : mayBeLxc ? LXC_PAYLOAD.exec(segment)?.[1] : undefined;
    if (id) {
      const bare = previous === 'docker' ? 'docker' : belowEcs ? 'ecs' : null;
      enterContainer(found, id[2] ?? '', id[1] === undefined ? bare : (RUNTIMES.get(id[1]) ?? null), place);
    } else if (belowEcs && FARGATE_ID.test(segment)) enterContainer(found, segment, 'ecs', place);
    else if (payload !== undefined && payload !== '') enterContainer(found, cleanLabel(payload), 'lxc', place);
    else enterUnit(found, place);
  }
  return found;
}

function enterPod(found: Found, segment: string, { segments, i, mayHoldPods }: Place): boolean {
  const pod = POD.exec(segment);
  if (!pod) return false;
  // A pod that may make folders can name one like another pod.
  if (found.podUid !== null) return true;
  const above = segments.slice(0, i);
  const previous = above.at(-1) ?? '';
  // Seen from the cgroup of a pod, paths begin below the folder of all pods.
  const isBelowRoot =
    pod[1] !== undefined ||
    above.some((name) => POD_ROOT.test(name)) ||
    above.every((name) => /^(?:|\.\.|besteffort|burstable)$/.test(name));
  if (!mayHoldPods || !isBelowRoot) return false;
  const qos = pod[2] ?? previous;
  const below = pod[1] !== undefined || previous === 'kubepods';
  found.kind = 'container';
  found.podUid = (pod[3] ?? '').replaceAll('_', '-');
  found.qos = qos === 'besteffort' || qos === 'burstable' ? qos : below ? 'guaranteed' : null;
  found.unit = null;
  return true;
}

function enterContainer(found: Found, id: string, runtime: string | null, place: Place): void {
  // kubelet knows the outermost container of a pod. Those inside can have any id.
  const isDeep = found.podUid !== null && ++place.depth > 2;
  if (!isDeep)
    found.outerContainerId = found.podUid === null ? (found.outerContainerId ?? found.containerId) : found.containerId;
  found.kind = 'container';
  found.containerId = id;
  found.runtime = runtime;
  leaveUnit(found);
}

/** The service of a runtime, or a login, says nothing about containers below it. Those below another service are of that (Quadlet). */
function leaveUnit(found: Found): void {
  if (isService(found.unit) && !RUNTIME_SERVICE.test(found.unit ?? '')) return;
  found.unit = null;
  delete found.unitOf;
}

/**
 * Enters a container of systemd-nspawn or libvirt-lxc. systemd-nspawn keeps its container in the folder `payload` of its unit, and
 * itself in `supervisor`; without cgroup v2, the container's own units follow the unit.
 */
function enterSystem(found: Found, place: Place): boolean {
  const { segments, i } = place;
  if (found.kind === 'container' && !SYSTEMS.has(found.runtime)) return false;
  const segment = unescapeUnit(segments[i] ?? '');
  const next = segments[i + 1];
  const libvirt = LIBVIRT_LXC.exec(segment);
  const service = NSPAWN_SERVICE.exec(segment);
  const isNspawn = service !== null && (segment.startsWith('systemd-nspawn@') || segments[i - 1] === 'machine.slice');
  const scope = NSPAWN_SCOPE.exec(segment)?.[1];
  const hasSystem =
    next === 'payload' || (scope !== undefined && /^(?:supervisor|init\.scope|.+\.slice)$/.test(next ?? ''));
  if (next === 'supervisor' && (isNspawn || scope !== undefined)) {
    found.kind = 'runtime-monitor';
    found.runtime = 'systemd-nspawn';
    leaveUnit(found);
  } else if (libvirt) enterContainer(found, cleanLabel(libvirt[1] ?? libvirt[2] ?? ''), 'libvirt-lxc', place);
  else if (isNspawn || hasSystem) {
    const name = isNspawn ? service[1] : (scope ?? UNIT.exec(segment)?.[1]);
    if (name === undefined) return false;
    enterContainer(found, cleanLabel(name), 'systemd-nspawn', place);
  } else return false;
  return true;
}

/** Whether a unit is a service of the system or of a user, rather than a login or the manager of a user's services. */
export function isService(unit: string | null): boolean {
  return unit !== null && unit.endsWith('.service') && !unit.startsWith('user@');
}

/** Undoes the escapes of systemd-escape(1): `\x2d` is a dash. */
function unescapeUnit(name: string): string {
  return name.replaceAll(/(?:\\x[0-9a-f]{2})+/g, (bytes) => Buffer.from(bytes.replaceAll('\\x', ''), 'hex').toString());
}

/** Keeps the outermost unit of a path. Units inside a container are ignored, except where the container is a system. */
function enterUnit(found: Found, place: Place): void {
  const { segments, i } = place;
  const segment = segments[i] ?? '';
  const insideSystem = found.kind === 'container' && SYSTEMS.has(found.runtime);
  if ((found.kind === 'container' && !insideSystem) || found.kind === 'runtime-monitor') return;
  if (found.unit !== null || found.kind === 'session' || found.user !== undefined) return;
  const session = SESSION.test(segment);
  const talos = i === 2 && (segments[1] === 'podruntime' || segments[1] === 'system');
  if (/\.(?:service|scope)$/.test(segment) || (talos && segment !== '')) found.unit = unescapeUnit(segment);
  else if (!session) return;
  place.mayHoldPods = RUNTIME_SERVICE.test(found.unit ?? '');
  if (insideSystem) {
    if (found.unit !== null) found.unitOf = found.outerContainerId ?? found.containerId ?? '';
    return;
  }
  found.kind = session ? 'session' : 'unit';
  const user = USER_MANAGER.exec(segment)?.[1];
  if (user !== undefined) found.user = Number(user);
}
