import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SYSTEM_CLOCK } from '../../common/clock.ts';
import type { ClusterChange, Resource } from './cluster-cache.ts';
import type { Kubernetes } from './api-client.ts';
import type { Log, Repeating } from '../../common/log.ts';

/** Where the kubelet puts what a pod needs to speak to the API server. */
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

/** The API server of the cluster that is watched. */
export interface WatchSettings {
  readonly server: { readonly host: string; readonly port: number };
  readonly nodeName: string;
  readonly services: boolean;
  /** False where the environment alone says that this is a cluster. */
  readonly isAskedFor: boolean;
}

export interface WatchContext {
  readonly version: string;
  /** A number from 0 to 1. */
  readonly random: () => number;
  readonly failures: Repeating;
  readonly log: Log;
}

/** Decides whether a cluster is watched; `start` watches it. Nothing of it is loaded where there is none. */
export function prepareWatch(
  watched: WatchSettings | null,
  { version, random, failures, log }: WatchContext,
): ClusterWatch | null {
  if (!watched) return null;
  // Every pod is told of the API server, and only one that is to use it has a token.
  if (!watched.isAskedFor && !existsSync(join(SERVICE_ACCOUNT, 'token'))) {
    log.info('pods are named by their cgroups: there is no token for the kubernetes api');
    return null;
  }
  const resources: readonly Resource[] = watched.services ? ['pods', 'services', 'endpointslices'] : ['pods'];
  const start = async (deliver: (news: ClusterChange) => void): Promise<Kubernetes> => {
    const { Kubernetes } = await import('./api-client.ts');
    return new Kubernetes(resources, {
      ...watched,
      serviceAccount: SERVICE_ACCOUNT,
      version,
      clock: SYSTEM_CLOCK,
      random,
      deliver,
      report: (resource, reason) =>
        failures.warn(`kubernetes ${resource}`, { resource, reason }, 'a kubernetes watch failed'),
      recovered: (resource) =>
        failures.recovered(`kubernetes ${resource}`, { resource }, 'a kubernetes watch works again'),
    });
  };
  return { resources, start };
}

export interface ClusterWatch {
  readonly resources: readonly Resource[];
  readonly start: (deliver: (news: ClusterChange) => void) => Promise<Kubernetes>;
}
