import type { Row, State } from '../model.ts';

/** What a text says of a connection beside its ends, state, queues and processes. */
export type Details = Partial<
  Pick<
    Row,
    | 'user'
    | 'cgroup'
    | 'sent_bytes'
    | 'received_bytes'
    | 'acknowledged_bytes'
    | 'retransmitted_bytes'
    | 'round_trip_seconds'
    | 'min_round_trip_seconds'
    | 'retransmits'
    | 'congestion_control'
    | 'congestion_window'
    | 'timer'
    | 'timer_seconds'
    | 'timer_retransmits'
  >
>;

/** Maximum length of the details of one row. */
export const MAX_DETAILS_LENGTH = 16_384;
/** A value of -i or -e: "rtt:0.03/0.015", "retrans:0/5", "timer:(keepalive,119min,0)", "cgroup:/system.slice". */
const VALUE = /(?:^|\s)([a-z_]{1,20}):(\S{1,4096})/g;
/** The name of the congestion control is the last plain word before the first value. */
const CONGESTION_CONTROL =
  /(?:^|\s)([a-z][a-z0-9_-]{0,15})\s{1,400}(?:wscale|rto|backoff|rtt|ato|mss|cwnd|ssthresh|bytes_sent|bytes_acked):\d/;
const OPTIONS: ReadonlySet<string> = new Set(['ts', 'sack', 'ecn', 'ecnseen', 'fastopen', 'app_limited']);
/** Releases that print one of these also print the bytes that were sent, unless they are 0. */
const SINCE_BYTES_SENT = [
  'bytes_sent',
  'bytes_retrans',
  'dsack_dups',
  'reord_seen',
  'rcv_ooopack',
  'snd_wnd',
  'rcv_wnd',
];
/** States in which the kernel has received the FIN of the peer, and counts it as a byte. */
const HAS_FIN: ReadonlySet<State> = new Set<State>(['close_wait', 'last_ack', 'closing']);
/** The names of net-tools in all of its languages, and of ss. */
const TIMERS: ReadonlyMap<string, string> = new Map(
  Object.entries({
    retransmission: 'on ein em an käib zapnut オン',
    keepalive: 'keepalive キープアライブ',
    time_wait: 'timewait 時間待ち',
    probe: 'probe persist',
  }).flatMap(([name, words]) => words.split(' ').map((word) => [word, name] as const)),
);
/** The number of the timer that probes a closed window, in releases that have no name for it. */
const UNNAMED_PROBE = /-4$/;

/** Reads the details that ss prints with -e, -i and -o. Values that are 0 are not printed: they are 0 if the release knows them. */
export function readSsDetails(text: string, state: State | null | undefined): Details {
  const values = new Map<string, string>();
  for (const [, key = '', value = ''] of text.matchAll(VALUE)) if (!values.has(key)) values.set(key, value);
  if (values.size === 0) return {};
  const number = (key: string): number | null => numberOf(values.get(key));
  const milliseconds = (key: string): number | null => {
    const [, digits] = /^(\d{1,12}(?:\.\d{1,9})?(?:e[+-]\d\d)?)(?:\/|$)/.exec(values.get(key) ?? '') ?? [];
    return digits === undefined ? null : Math.round(Number(digits) * 1000) / 1e6;
  };
  const path = values.get('cgroup');
  const [, timer = '', expires = '', tries] =
    /^\(([^,()]*),([^,()]*),(\d{1,10})\)$/.exec(values.get('timer') ?? '') ?? [];
  const hasTcpInfo = values.has('rto') || values.has('rtt') || values.has('bytes_sent') || values.has('bytes_acked');
  const hasTotals = hasTcpInfo && SINCE_BYTES_SENT.some((key) => values.has(key));
  const zero = hasTotals ? 0 : null;
  const sent = number('bytes_sent') ?? zero;
  const again = number('bytes_retrans') ?? zero;
  const received = number('bytes_received') ?? zero;
  const hasFin = state !== undefined && state !== null && HAS_FIN.has(state);
  const [, control] = CONGESTION_CONTROL.exec(text) ?? [];
  return {
    cgroup: path?.startsWith('/') ? path : null,
    sent_bytes: sent === null || again === null ? null : Math.max(0, sent - again),
    received_bytes: received === null ? null : Math.max(0, received - Number(hasFin)),
    acknowledged_bytes: number('bytes_acked') ?? zero,
    retransmitted_bytes: again,
    round_trip_seconds: milliseconds('rtt'),
    min_round_trip_seconds: milliseconds('minrtt'),
    retransmits: numberOf(/^\d{1,10}\/(\d{1,10})$/.exec(values.get('retrans') ?? '')?.[1]) ?? (hasTcpInfo ? 0 : null),
    congestion_control: control === undefined || OPTIONS.has(control) ? null : control,
    congestion_window: number('cwnd'),
    ...(tries === undefined ? {} : timerOf(timer, secondsOf(expires), Number(tries))),
  };
}

/** Parses the timer of net-tools: "keepalive (7199.63/0/0)" is its name, the time left, retransmissions and probes. */
export function readNetToolsTimer(name: string, numbers: string): Details {
  const [seconds = '', tries = ''] = numbers.split('/');
  return timerOf(name, Number(seconds.replace(',', '.')), Number(tries));
}

/** A timer that is off has no time left, in every language. */
function timerOf(word: string, seconds: number | null, tries: number): Details {
  const name = TIMERS.get(word.toLowerCase()) ?? (UNNAMED_PROBE.test(word) ? 'probe' : null);
  if (name === null && (seconds ?? 0) === 0) return {};
  return { timer: name, timer_seconds: seconds, timer_retransmits: tries };
}

/** Parses a time of ss: "119min", "1min5sec", "59sec", "5.123ms" (seconds and milliseconds), "204ms". */
function secondsOf(text: string): number | null {
  const [all, minutes = '0', seconds = '0', milliseconds = '0'] =
    /^(?:(\d{1,9})min)?(?:(\d{1,9})(?:sec|\.))?(?:(\d{1,3})ms)?$/.exec(text) ?? [];
  return all === undefined ? null : (Number(minutes) * 60_000 + Number(seconds) * 1000 + Number(milliseconds)) / 1000;
}

function numberOf(text: string | undefined): number | null {
  return /^\d{1,15}$/.test(text ?? '') ? Number(text) : null;
}
