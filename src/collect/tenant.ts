import type { OwnerLabels } from '../model.ts';
import type { ConnectionTable } from './connection-table.ts';
import { NO_UID } from './net-tcp-udp-raw.ts';

/**
 * Who answers for sockets, and has a share of what is bounded: a pod, a container that is not of a user, a user, or a unit of root,
 * whatever names its processes and units have.
 */
export function tenantOf(
  { namespace = '', pod = '', workload = '', container = '' }: Partial<OwnerLabels>,
  uid: number | null | undefined,
): string {
  if (pod !== '') return namespace === '' ? pod : `${namespace}/${pod}`;
  if (workload.startsWith('uid:')) return workload;
  // A container may have users with the numbers of others.
  if (container !== '') return `${workload} ${container}`;
  if (uid) return `uid:${uid}`;
  return workload === '' ? 'uid:0' : workload;
}

/** The tenant of a connection, by the uid of its socket, which the kernel forgets when it ends: then by that of its process. */
export function tenantOfConnection({ labels, process, uid }: ConnectionTable, i: number): string {
  const ofSocket = uid[i] ?? NO_UID;
  return tenantOf(labels[i] ?? {}, ofSocket === NO_UID ? (process[i]?.uid ?? null) : ofSocket);
}
