import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { findCommand } from './kustomize.ts';
import { parseDocuments, ROOT, type Manifest } from './manifests.ts';

export const CHART = join(ROOT, 'deploy/helm/peerscope');
/** The oldest that the chart supports. */
const KUBERNETES = '1.30.0';

export const HELM = findCommand('helm', [[join(ROOT, '.cache/tools/helm')], ['helm']]);

export interface Values {
  readonly release?: string;
  readonly namespace?: string;
  /** Paths of files with values. */
  readonly files?: readonly string[];
  /** Values as JSON by their path, such as "valkey.enabled". */
  readonly set?: Readonly<Record<string, unknown>>;
}

function run(command: string, { release = 'peerscope', namespace = 'peerscope', files = [], set = {} }: Values) {
  const given = [
    ...files.map((file) => `--values=${join(ROOT, file)}`),
    ...Object.entries(set).map(([path, value]) => `--set-json=${path}=${JSON.stringify(value)}`),
  ];
  const args = command === 'lint' ? ['lint', '--strict', CHART] : ['template', release, CHART];
  const [program = ''] = HELM ?? [];
  return spawnSync(program, [...args, `--namespace=${namespace}`, `--kube-version=${KUBERNETES}`, ...given], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
}

/** What `helm template` makes of the chart. */
export function render(values: Values): Manifest[] {
  const { status, stdout, stderr } = run('template', values);
  if (status !== 0) throw new Error(stderr);
  return parseDocuments<Manifest | null>(stdout).filter((manifest) => manifest !== null);
}

/** Why the chart refuses these values; null if it does not. */
export function refusal(values: Values): string | null {
  const { status, stderr } = run('template', values);
  return status === 0 ? null : stderr;
}

/** What `helm lint` says about the chart with these values; null for nothing. */
export function lint(values: Values): string | null {
  const { status, stdout, stderr } = run('lint', values);
  return status === 0 ? null : stdout + stderr;
}

/** Whether an object belongs to `helm test`. */
export const isHook = ({ metadata }: Manifest): boolean =>
  'helm.sh/hook' in ((metadata as { annotations?: object }).annotations ?? {});
