import type { Cgroup, OwnerLabels } from '../model.ts';
import type { ConnectionTable } from './connection-table.ts';
import { NO_UID } from './net-tcp-udp-raw.ts';

/** The numbers from here on are mostly subordinate ones: a user has tens of thousands of them, for containers. */
const FIRST_SUBORDINATE = 65_536;
/** Where useradd begins with subordinate numbers, and how many a user gets. */
const SUBORDINATE_BLOCKS = { first: 100_000, size: 65_536 };

/**
 * Who answers for sockets, and has a share of what is bounded: a pod, a container that is not of a user, a user, or a unit of root,
 * whatever names its processes and units have, and whatever it starts inside. A user answers for their subordinate user numbers: those of
 * a login are known by its cgroup, others are one tenant for each block that a user gets.
 */
export function tenantOf(
  { namespace = '', pod = '', workload = '', container = '' }: Partial<OwnerLabels>,
  uid: number | null | undefined,
  cgroup?: Pick<Cgroup, 'user' | 'login'>,
): string {
  if (pod !== '') return namespace === '' ? pod : `${namespace}/${pod}`;
  if (cgroup?.user !== undefined) return `uid:${cgroup.user}`;
  const user = workload.startsWith('uid:') ? Number(workload.slice('uid:'.length)) : NaN;
  if (Number.isInteger(user)) return tenantOfUser(user, cgroup?.login);
  // A container may have users with the numbers of others, and units and containers inside with any names.
  if (container !== '') return tenantOfContainer(workload, container);
  if (uid) return tenantOfUser(uid, cgroup?.login);
  return workload === '' ? 'uid:0' : workload;
}

/** The tenant of a connection, by the uid of its socket, which the kernel forgets when it ends: then by that of its process. */
export function tenantOfConnection({ labels, process, uid }: ConnectionTable, i: number): string {
  const ofSocket = uid[i] ?? NO_UID;
  const owner = process[i];
  return tenantOf(labels[i] ?? {}, ofSocket === NO_UID ? (owner?.uid ?? null) : ofSocket, owner?.cgroup);
}

/** Whether a user other than root is the tenant. */
export function isUser(tenant: string): boolean {
  return /^uid:[1-9]/.test(tenant);
}

function tenantOfUser(uid: number, login: number | undefined): string {
  if (uid < FIRST_SUBORDINATE) return `uid:${uid}`;
  if (login) return `uid:${login}`;
  const { first, size } = SUBORDINATE_BLOCKS;
  const block = uid < first ? FIRST_SUBORDINATE : first + Math.floor((uid - first) / size) * size;
  return `uid:${block}-${uid < first ? first - 1 : block + size - 1}`;
}

function tenantOfContainer(workload: string, container: string): string {
  const [outermost = ''] = container.split('/');
  // "web/nginx.service" is a unit of the container "web".
  if (workload.includes('/')) return `container ${outermost}`;
  // All containers below a unit are of that unit.
  return /\.(?:service|scope)$/.test(workload) ? workload : `${workload} ${outermost}`;
}
