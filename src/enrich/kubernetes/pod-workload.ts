import { listIn, objectIn, textIn, type ApiObject } from './list-parser.ts';

/**
 * Returns the workload of a pod. It is the controller, never a part of the pod name, which the API server may
 * truncate. Two kinds of controllers get a new name for each rollout or run, and have a name that stays:
 * the Deployment of a ReplicaSet or the CronJob of a Job, by the naming rules of their controllers; and the objects
 * in STABLE_NAMES, by labels of the pod. A static pod goes by its name without the node. A pod without a controller
 * goes by its `generateName`, else by its name.
 */
export function workloadOfPod(metadata: ApiObject): string {
  const controller = listIn(metadata['ownerReferences'])
    .map(objectIn)
    .find((owner) => owner['controller'] === true);
  const kind = controller ? textIn(controller['kind']) : NONE;
  const name = (controller ? textIn(controller['name']) : nameWithoutController(metadata)).slice(0, MAX_NAME);
  const createdAt = Date.parse(textIn(metadata['creationTimestamp']));
  const labels = objectIn(metadata['labels']);
  const stable = stableName(kind, labels, objectIn(metadata['annotations']), createdAt);
  if (stable !== null) return stable;
  if (kind === 'Node') return without(textIn(metadata['name']), `-${name}`);
  const hash = textIn(labels['pod-template-hash']) || textIn(labels['rollouts-pod-template-hash']);
  if ((kind === 'ReplicaSet' || kind === NONE) && hash !== '') return without(name, `-${hash}`);
  const end = ENDS.find(({ kinds, end }) => kinds.includes(kind) && end.test(name))?.end;
  if (end) return name.replace(end, '');
  return RUN_KINDS.has(kind) ? withoutRun(name, createdAt) : name;
}

/** The longest name of an object (RFC 1123 subdomain). The API server enforces it; patterns rely on it. */
const MAX_NAME = 253;

/** The kind of a missing controller. */
const NONE = '';

interface StableName {
  /** The kinds of the controllers of such pods. */
  readonly kinds: readonly string[];
  /** The labels or annotations that hold the name. The first one that is set counts. */
  readonly keys: readonly string[];
  /** Labels that must be set too, where the keys are common words. */
  readonly needs?: readonly string[];
  /** A label with the name of the run. A value equal to it does not stay. */
  readonly run?: string;
  /** True if the name may belong to a run itself. Its generated end is removed. */
  readonly mayBeRun?: true;
}

/** Where the stable name of a pod stands, by the kind of its controller. */
const STABLE_NAMES: readonly StableName[] = [
  // https://keda.sh/docs/latest/concepts/scaling-jobs/
  { kinds: ['Job'], keys: ['scaledjob.keda.sh/name'] },
  // https://argo-workflows.readthedocs.io/en/latest/fields/#labels
  {
    kinds: ['Workflow'],
    keys: [
      'workflows.argoproj.io/cron-workflow',
      'workflows.argoproj.io/workflow-template',
      'workflows.argoproj.io/cluster-workflow-template',
    ],
  },
  // https://tekton.dev/docs/pipelines/labels/: an embedded pipeline or task has the name of its run.
  { kinds: ['TaskRun', 'CustomRun', 'PipelineRun'], keys: ['tekton.dev/pipeline'], run: 'tekton.dev/pipelineRun' },
  { kinds: ['TaskRun', 'CustomRun', 'PipelineRun'], keys: ['tekton.dev/pipelineRun'], mayBeRun: true },
  { kinds: ['TaskRun'], keys: ['tekton.dev/task', 'tekton.dev/clusterTask'], run: 'tekton.dev/taskRun' },
  // https://github.com/actions/actions-runner-controller: current and legacy runners.
  { kinds: ['EphemeralRunner', 'AutoscalingListener'], keys: ['actions.github.com/scale-set-name'] },
  { kinds: ['Runner'], keys: ['runner-deployment-name'] },
  // https://spark.apache.org/docs/latest/running-on-kubernetes.html and https://github.com/kubeflow/spark-operator
  {
    kinds: ['SparkApplication', 'Pod', NONE],
    keys: ['sparkoperator.k8s.io/app-name', 'spark-app-name'],
    needs: ['spark-role'],
    mayBeRun: true,
  },
  // https://airflow.apache.org/docs/apache-airflow-providers-cncf-kubernetes/
  { kinds: ['Job', NONE], keys: ['dag_id'], needs: ['task_id'] },
  // https://jobset.sigs.k8s.io/docs/concepts/
  { kinds: ['Job'], keys: ['jobset.sigs.k8s.io/jobset-name'], mayBeRun: true },
  // https://docs.ray.io/en/latest/cluster/kubernetes/: the RayJob or RayService, else the RayCluster.
  {
    kinds: ['RayCluster', 'RayJob', 'RayService', 'Job'],
    keys: ['ray.io/originated-from-cr-name', 'ray.io/cluster'],
    mayBeRun: true,
  },
  // https://docs.prefect.io/, https://docs.dagster.io/ and https://docs.flyte.org/
  { kinds: ['Job', NONE], keys: ['prefect.io/deployment-name', 'prefect.io/flow-name'] },
  { kinds: ['Job', NONE], keys: ['dagster/job'] },
  { kinds: ['flyteworkflow', 'FlyteWorkflow'], keys: ['workflow-name'], needs: ['execution-id'] },
  // https://docs.gitlab.com/runner/executors/kubernetes/
  { kinds: [NONE], keys: ['project.runner.gitlab.com/name'] },
  // https://knative.dev/docs/serving/: each revision has a Deployment.
  { kinds: ['ReplicaSet'], keys: ['serving.knative.dev/service'] },
  // https://docs.openshift.com/: each rollout has a ReplicationController, and a deployer pod of it.
  { kinds: ['ReplicationController'], keys: ['deploymentconfig', 'openshift.io/deployment-config.name'] },
];

function stableName(kind: string, labels: ApiObject, annotations: ApiObject, createdAt: number): string | null {
  for (const { kinds, keys, needs = [], run, mayBeRun } of STABLE_NAMES) {
    if (!kinds.includes(kind) || needs.some((key) => textIn(labels[key]) === '')) continue;
    const name = keys.map((key) => textIn(labels[key]) || textIn(annotations[key])).find((text) => text !== '');
    if (name === undefined || (run !== undefined && textIn(labels[run]) === name)) continue;
    return mayBeRun ? withoutRun(name, createdAt) : name;
  }
  return null;
}

/** Kinds of controllers that may be made for one run only, so that their names may have generated ends. */
const RUN_KINDS: ReadonlySet<string> = new Set([
  ...STABLE_NAMES.flatMap(({ kinds }) => kinds).filter(
    (kind) => !['ReplicaSet', 'ReplicationController', 'Pod', 'Runner', 'RayService', NONE].includes(kind),
  ),
  ...['JobSet', 'AppWrapper', 'TrainJob', 'PyTorchJob', 'TFJob', 'MPIJob', 'XGBoostJob', 'PaddleJob', 'JAXJob'],
]);

/** Ends of names that only one program generates, by the kind of the controller. */
const ENDS: readonly { readonly kinds: readonly string[]; readonly end: RegExp }[] = [
  // GitHub runners; their container mode adds pods without a controller.
  {
    kinds: ['EphemeralRunner', NONE],
    end: /-[bcdfghjklmnpqrstvwxz2456789]{5}-runner-[bcdfghjklmnpqrstvwxz2456789]{5}(?:-workflow)?$/,
  },
  { kinds: ['Runner'], end: /-[bcdfghjklmnpqrstvwxz2456789]{5}-[bcdfghjklmnpqrstvwxz2456789]{5}$/ },
  // Spark drivers, which control their executors.
  { kinds: ['Pod', NONE], end: /(?:-(?=[a-f]*\d)[0-9a-f]{6,})?-(?:driver|exec-\d+)$/ },
  // GitLab runners.
  { kinds: [NONE], end: /(?<=^runner-.+-project-\d+)-concurrent-\d+(?:-?[a-z0-9]+)?$/ },
  // kubectl debug node.
  { kinds: [NONE], end: /(?<=^node-debugger)-.+-[bcdfghjklmnpqrstvwxz2456789]{5}$/ },
  // Jobs that k9s and the Kubernetes dashboard start from a CronJob.
  { kinds: ['Job'], end: /-manual-[bcdfghjklmnpqrstvwxz2456789]{3}$/ },
  // Tekton's affinity assistants: one StatefulSet for each run.
  { kinds: ['StatefulSet'], end: /(?<=^affinity-assistant)-[0-9a-f]{10}$/ },
  // OpenShift builds.
  { kinds: ['Build'], end: /-\d+$/ },
  // cert-manager: a Challenge has the name of its certificate and two hashes.
  { kinds: ['Challenge'], end: /(?:-\d+){2,3}$/ },
];

/** `generateName` without its separator, if the API server made the name of it. */
function nameWithoutController(metadata: ApiObject): string {
  const name = textIn(metadata['name']);
  const prefix = textIn(metadata['generateName']).slice(0, MAX_NAME);
  const stem = prefix.replace(/[-.]+$/, '');
  return stem !== '' && name.startsWith(prefix) ? stem : name;
}

function without(name: string, end: string): string {
  return name.endsWith(end) && name.length > end.length ? name.slice(0, -end.length) : name;
}

/** A UUID, or a long hexadecimal number with a digit. */
const RANDOM_HEX = /-(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=[a-f]*\d)[0-9a-f]{16,})$/;
/**
 * The end that `generateName` adds: five characters without vowels
 * (https://pkg.go.dev/k8s.io/apimachinery/pkg/util/rand). Words that people write with these characters are kept.
 */
const GENERATED = /-(?!https$|html5$|xhtml$|mssql$|mqtts$|grpcs$|tls)[bcdfghjklmnpqrstvwxz2456789]{5}$/;

/** Removes the end of a name that is new for each run: a time close to the creation, or a random text. */
function withoutRun(name: string, createdAt: number): string {
  const timed = withoutTime(name, createdAt);
  if (timed !== null) return timed;
  for (const end of [RANDOM_HEX, GENERATED])
    if (end.test(name) && name.search(end) > 0) return without(name.replace(end, ''), '-raycluster');
  return name;
}

/** The maximum delay of a Job or of a recreated pod. */
const LATEST_MINUTES = 7 * 24 * 60;
/** Clocks of the control plane may differ. */
const SKEW_MINUTES = 5;

/** The parts of a minute, by the number of digits of a time since 1970: minutes, and s, ms, µs and ns. */
const PER_MINUTE: Readonly<Record<number, number>> = { 8: 1, 9: 1, 10: 60, 13: 6e4, 16: 6e7, 19: 6e10 };

/** A CronJob appends the scheduled minute to the names of its Jobs; other schedulers append finer times. */
function withoutTime(name: string, createdAt: number): string | null {
  const [, stem, digits = ''] = /^(.+)-(\d{8,19})$/.exec(name) ?? [];
  const late = createdAt / 60_000 - Number(digits) / (PER_MINUTE[digits.length] ?? Number.NaN);
  return stem !== undefined && late > -SKEW_MINUTES && late < LATEST_MINUTES ? stem : null;
}
