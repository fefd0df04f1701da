import { UIDS } from './dashboard.ts';
import { drillDown, type Link } from './panels.ts';

const OWNER = ['process', 'workload', 'namespace'];

/** Links of cells. */
export const RUNBOOK: Link = {
  title: 'Runbook',
  url: 'https://github.com/peerscope/peerscope/blob/main/docs/runbooks/${__data.fields.alertname:percentencode}.md',
};
export const ASN_LINK = drillDown('Connections to this operator', UIDS.asn, '__data.fields', ['asn']);
export const OWNER_LINK = drillDown('This process', UIDS.owner, '__data.fields', OWNER);

/** Links of bars and lines. */
export const TO_OPERATOR = [drillDown('Connections to AS${__field.labels.asn}', UIDS.asn, '__field.labels', ['asn'])];
export const TO_OWNER = [drillDown('${__field.labels.process}', UIDS.owner, '__field.labels', OWNER)];
