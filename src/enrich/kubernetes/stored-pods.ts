import { formatAddress, parseAddress } from '../../common/address.ts';
import { cleanLabel } from '../../common/sanitize.ts';
import { listIn, objectIn, textIn } from './list-parser.ts';
import type { Pod } from './pods.ts';

/** Pods are spread over the texts by the last digit of their uid, so that a change of one pod changes one text. */
const TEXTS = 16;
/** The longest text in characters. Pods that do not fit have no names in commands. */
const MAX_LENGTH = 128 * 1024;

/** The keys under which an exporter stores the pods of its node, for the commands on that node. */
export const STORED_PODS_KEYS: readonly string[] = Array.from({ length: TEXTS }, (_, i) => `pods:1:${i.toString(16)}`);

/** Returns a text for each of the keys. `decodePods` is the inverse, for what names processes and addresses. */
export function encodePods(pods: readonly Pod[]): { readonly key: string; readonly text: string }[] {
  const lists = STORED_PODS_KEYS.map((): string[] => []);
  const lengths = lists.map(() => 0);
  for (const pod of [...pods].sort((a, b) => (a.uid < b.uid ? -1 : 1))) {
    const i = (pod.uid.codePointAt(pod.uid.length - 1) ?? 0) % TEXTS;
    const text = encode(pod);
    lengths[i] = (lengths[i] ?? 0) + text.length + 1;
    if (lengths[i] < MAX_LENGTH) lists[i]?.push(text);
  }
  return STORED_PODS_KEYS.map((key, i) => ({ key, text: `[${lists[i]?.join(',') ?? ''}]` }));
}

/** Returns the pods in texts. Another version of peerscope may have written them: what is not a pod is left out. */
export function decodePods(texts: Iterable<string>): Pod[] {
  return [...texts].flatMap((text) => {
    try {
      return listIn(JSON.parse(text)).flatMap((value) => decode(value) ?? []);
    } catch {
      return [];
    }
  });
}

function encode({
  uid,
  configHash,
  namespace,
  name,
  workload,
  kept,
  addresses,
  containers,
  onlyContainer,
}: Pod): string {
  const ips = addresses.map((address) => formatAddress(address));
  return JSON.stringify({ uid, configHash, namespace, name, workload, kept, ips, containers, onlyContainer });
}

function decode(value: unknown): Pod | null {
  const pod = objectIn(value);
  const [uid = '', namespace = '', name = '', workload = ''] = ['uid', 'namespace', 'name', 'workload'].map((key) =>
    textIn(pod[key]),
  );
  if (uid === '' || namespace === '' || name === '') return null;
  const { labels, annotations } = objectIn(pod['kept']);
  const onlyContainer = textIn(pod['onlyContainer']);
  return {
    uid,
    configHash: textIn(pod['configHash']) || null,
    namespace: cleanLabel(namespace),
    name: cleanLabel(name),
    workload: cleanLabel(workload),
    ...(pod['kept'] !== undefined && { kept: { labels: textsIn(labels), annotations: textsIn(annotations) } }),
    addresses: listIn(pod['ips']).flatMap((text) => {
      const address = parseAddress(textIn(text));
      return address ? [address] : [];
    }),
    containers: listIn(pod['containers']).flatMap((container): [string, string][] => {
      const [id, title] = listIn(container).map(textIn);
      return id === undefined || id === '' || title === undefined ? [] : [[id, cleanLabel(title)]];
    }),
    onlyContainer: onlyContainer === '' ? null : cleanLabel(onlyContainer),
  };
}

function textsIn(value: unknown): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(objectIn(value)).flatMap(([key, text]) => (typeof text === 'string' ? [[key, text]] : [])),
  );
}
