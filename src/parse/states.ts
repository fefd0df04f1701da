import type { State, Transport } from '../model.ts';

/**
 * State names in upper case with "_" instead of "-" and blanks: ss (iproute2, misc/ss.c), netstat on Linux with its translations,
 * busybox, BSD, macOS, Solaris and Windows with its translations, lsof, and PowerShell.
 */
const TCP_NAMES: Readonly<Partial<Record<State, string>>> = {
  established:
    'ESTAB ESTABLISHED HERGESTELLT VERBUNDEN SPOJENO ESTABELECIDA ESTABELECIDO ESTABLECIDO ESTABLECIDA STABILITO STABILITA ÉTABLIE ETABLIE ÉTABLI NAVÁZÁNO USTANOWIONO LÉTREJÖTT 已建立 已建立连接 已连接 確立 確立済み УСТАНОВЛЕНО СОЕДИНЕНО УСТАНОВЛЕН',
  syn_sent: 'SYN_SENT SYN_SEND SYNSENT SYN_GESENDET SYN_ENVIADO SYN_ENVOYÉ',
  syn_received:
    'SYN_RECV SYN_RCVD SYN_RECEIVED SYNRECEIVED SYNRCVD SYN_EMPFANGEN SYN_RECEBIDO SYN_RECIBIDO SYN_REÇU SYN_EMPFANG',
  fin_wait_1: 'FIN_WAIT1 FIN_WAIT_1 FINWAIT1 ESPERA_FIN1 FIN_WARTEN_1 FIN_WARTEN1 ESPERA_FIN_1',
  fin_wait_2: 'FIN_WAIT2 FIN_WAIT_2 FINWAIT2 ESPERA_FIN2 FIN_WARTEN_2 FIN_WARTEN2 ESPERA_FIN_2',
  time_wait: 'TIME_WAIT TIMED_WAIT TIMEWAIT WARTEND CZAS_OCZEKIWANIA TIEMPO_ESPERA ATTENTE',
  closed:
    'UNCONN CLOSE CLOSED BOUND IDLE FECHAR FECHADO CERRADO ZAVŘEN GESCHLOSSEN DELETETCB FERMÉ 关闭 已关闭 ЗАКРЫТО',
  close_wait: 'CLOSE_WAIT CLOSEWAIT SCHLIESSEN_WARTEN SCHLIESSEN_WARTET ESPERANDO_FECHAR OCZEKIWANIE_ZAMKNIĘCIA',
  last_ack: 'LAST_ACK LASTACK ÚLTIMO_ACK ULTIMO_ACK POSLEDNÍ_ACK LETZTES_ACK LETZTE_ACK DERNIER_ACK',
  listen:
    'LISTEN LISTENING NASLOUCHÁ NASLOUCHÁNÍ OUÇA OUVINDO ESCUTA ESCUTANDO ESCUCHAR ESCUCHA ESCUCHANDO ABHÖREN HÖRT ÉCOUTE ECOUTE EN_ÉCOUTE NASŁUCHIWANIE FIGYEL FIGYELÉS ASCOLTO IN_ASCOLTO 监听 侦听 正在监听 監聽 聆聽 接続待ち リッスン ПРОСЛУШИВАНИЕ СЛУШАЕТ ОЖИДАНИЕ',
  closing: 'CLOSING FECHANDO ZAVÍRÁ SCHLIESSEN CERRANDO FERMETURE',
  unknown: 'UNKNOWN NEZNÁM UNBEKANNT TUNDMATU INCONNU 不明 DESCONHECIDA DESCONOCIDO',
};

const OTHER_NAMES: Readonly<Partial<Record<State, string>>> = {
  unconnected: 'UNCONN IDLE UNBOUND CLOSE CLOSED FECHAR ZAVŘEN',
  established:
    'ESTAB ESTABLISHED CONNECTED VERBUNDEN SPOJENO ESTABELECIDA ESTABELECIDO ESTABLECIDO ESTABLECIDA STABILITO ÉTABLIE 已连接 已建立 確立',
  unknown: 'UNKNOWN NEZNÁM UNBEKANNT TUNDMATU INCONNU 不明 DESCONHECIDA DESCONOCIDO',
};

const TCP_STATES = byName(TCP_NAMES);
const OTHER_STATES = byName(OTHER_NAMES);
/** Translated names in a wrong encoding: each run of characters outside ASCII is "?". */
const DAMAGED_STATES = new Map(
  [...TCP_STATES].map(([name, state]) => [damagedName(name), state] as const).filter(([name]) => isDamaged(name)),
);
/** TCP states that no other transport has. */
const TCP_ONLY: ReadonlySet<State> = new Set<State>([
  'syn_sent',
  'syn_received',
  'fin_wait_1',
  'fin_wait_2',
  'time_wait',
  'close_wait',
  'last_ack',
  'listen',
  'closing',
]);

/** The state for a name; undefined if it is unknown, null if it is ambiguous without a transport. */
export function stateOfWord(word: string, transport: Transport | null): State | null | undefined {
  if (word.length > 40) return undefined;
  const name = word.toUpperCase().replaceAll(/[- ]/g, '_');
  const tcp = TCP_STATES.get(name) ?? DAMAGED_STATES.get(damagedName(name));
  if (transport === 'tcp') return tcp;
  const other = OTHER_STATES.get(name);
  if (transport !== null) return other;
  return other === undefined || other === tcp ? tcp : null;
}

/** Whether only TCP sockets have a state. */
export function isTcpState(state: State | null | undefined): boolean {
  return state !== undefined && state !== null && TCP_ONLY.has(state);
}

function byName(names: Readonly<Partial<Record<State, string>>>): ReadonlyMap<string, State> {
  return new Map(
    Object.entries(names).flatMap(([state, words]) => words.split(' ').map((word) => [word, state as State] as const)),
  );
}

function damagedName(name: string): string {
  return name.replaceAll(/[^\u0000-\u007f]+/g, '?');
}

/** Whether enough of a name is left to identify it. */
function isDamaged(name: string): boolean {
  return name.includes('?') && name.replaceAll(/[^A-Z]/g, '').length >= 3;
}
