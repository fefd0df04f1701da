import { formatCidr } from '../common/address.ts';
import { escapeControls } from '../common/sanitize.ts';
import { SYSTEM_CLOCK } from '../common/clock.ts';
import type {
  Cidr,
  EndpointGroupRule,
  ExpectedRule,
  OperatorNetwork,
  ProcessRule,
  Rules,
  SuspectList,
  WorkloadRule,
} from '../model.ts';
import { readRules, writtenPattern } from '../config/rules.ts';
import { UsageError } from '../common/errors.ts';

interface Writer {
  write(text: string): unknown;
}

/** Prints what the configuration file at `path` means, one line per rule, or what is wrong with it. Returns the exit code. */
export function checkConfig(path: string, stdout: Writer, stderr: Writer, now = SYSTEM_CLOCK.now()): 0 | 1 {
  try {
    const sentences = [`Configuration ${JSON.stringify(path)} is valid.`, ...explainRules(readRules(path), now)];
    stdout.write(sentences.map((sentence) => `${escapeControls(sentence)}\n`).join(''));
    return 0;
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    stderr.write(`${error.message}\n`);
    return 1;
  }
}

function explainRules(rules: Rules, now: number): string[] {
  const { processes, workloads, endpointGroups, networks, asnNeverSend, expected, suspects } = rules;
  const sentences = [
    ...processes.map((rule, i) => `processes[${i}]: ${explainProcess(rule)}${precedence(i)}`),
    ...workloads.map((rule, i) => `workloads[${i}]: ${explainWorkload(rule)}${precedence(i)}`),
    ...endpointGroups.map((rule, i) => `endpoint_groups[${i}]: ${explainEndpointGroup(rule)}${precedence(i)}`),
    ...networks.map((network, i) => `networks[${i}]: ${explainNetwork(network)}.`),
    ...(asnNeverSend.length > 0
      ? [`asn.never_send: addresses in ${cidrList(asnNeverSend)} are never sent to an ASN provider.`]
      : []),
    ...expected.map((rule, i) => `expected[${i}]: ${explainExpected(rule, now)}.`),
    ...suspects.map((list, i) => `suspects[${i}]: ${explainSuspects(list)}.`),
  ];
  return sentences.length > 0 ? sentences : ['The file has no rules. All names are the defaults.'];
}

function precedence(i: number): string {
  return i === 0 ? '.' : ', unless an earlier rule matches.';
}

function explainProcess({ name, exe, comm, cmdline }: ProcessRule): string {
  const conditions = [
    exe && `executable matching ${quoted(exe)}`,
    comm && `comm matching ${quoted(comm)}`,
    cmdline && `command line matching ${quoted(cmdline)}`,
  ].filter((condition) => condition !== undefined);
  const processes = conditions.length > 0 ? `a process with ${conditions.join(' and ')}` : 'every process';
  return `${processes} is named ${JSON.stringify(name)}`;
}

function explainWorkload({ name, labels = {}, annotations = {}, cgroup, unit }: WorkloadRule): string {
  const conditions = [
    ...Object.entries(labels).map(([key, pattern]) => `label ${JSON.stringify(key)} matching ${quoted(pattern)}`),
    ...Object.entries(annotations).map(([key, one]) => `annotation ${JSON.stringify(key)} matching ${quoted(one)}`),
    cgroup && `cgroup matching ${quoted(cgroup)}`,
    unit && `unit matching ${quoted(unit)}`,
  ].filter((condition) => condition !== undefined);
  return `a workload with ${conditions.join(' and ')} is named ${JSON.stringify(name)}`;
}

/** A pattern as written in the file: not escaped, so that it can be compared and copied. */
function quoted(pattern: RegExp): string {
  return `"${writtenPattern(pattern)}"`;
}

function explainEndpointGroup({ name, cidrs, ports, transport }: EndpointGroupRule): string {
  const conditions = [
    cidrs && ` in ${cidrList(cidrs)}`,
    ports && ` on port ${alternatives(ports.map(String))}`,
    transport && ` over ${transport}`,
  ].filter((condition) => condition !== undefined);
  const endpoints = conditions.length > 0 ? `an endpoint${conditions.join('')}` : 'every endpoint';
  return `${endpoints} belongs to group ${JSON.stringify(name)}`;
}

function explainNetwork({ name, cidrs, asn }: OperatorNetwork): string {
  const number = asn === undefined ? '' : ` with AS${asn}`;
  return `addresses in ${cidrList(cidrs)} belong to network ${JSON.stringify(name)}${number} and are never sent to an ASN provider`;
}

function explainExpected({ namespace, workload, what, until, why }: ExpectedRule, now: number): string {
  const name = JSON.stringify(namespace === '' ? workload : `${namespace}/${workload}`);
  const isOver = until !== null && until <= now;
  const verb = `${what.length === 1 ? (isOver ? 'was' : 'is') : isOver ? 'were' : 'are'} normal`;
  const end = until === null ? '' : ` until ${new Date(until).toISOString().slice(0, 16)}Z`;
  return `${what.join(', ')} ${verb} for workload ${name}${end}${why === '' ? '' : `: ${why}`}`;
}

function explainSuspects({ file, operators }: SuspectList): string {
  const count = operators.length;
  return `connections with the ${count === 1 ? '1 operator' : `${count} operators`} in ${JSON.stringify(file)} are always reported`;
}

function cidrList(cidrs: readonly Cidr[]): string {
  return alternatives(cidrs.map(formatCidr));
}

/** "a", "a or b", "a, b or c". */
function alternatives(texts: readonly string[]): string {
  return texts.join(', ').replace(/, (?=[^,]*$)/, ' or ');
}
