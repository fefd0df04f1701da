import { dashboard, UIDS } from './dashboard.ts';
import { lines, stat, table, TARGETS } from './panels.ts';

const NO_EXPORTER = 'No exporter is scraped.';
const NO_PROVIDER = 'No provider is asked (--asn.provider=none).';
const NO_OWN = 'The exporters leave out their own process (--web.disable-exporter-metrics).';

export default dashboard({
  uid: UIDS.health,
  title: 'Exporter health',
  description: 'What peerscope costs, what it could not see and why, and what it has folded.',
  sections: [
    {
      heading: 'Now',
      panels: [
        table(
          {
            title: 'Versions',
            description: 'The version of each exporter and of its Node.js.',
            width: 6,
            height: 6,
          },
          { value: { name: 'Exporters', unit: 'short' }, labels: ['version', 'node_version'] },
          `count by (version, node_version) (peerscope_build_info{${TARGETS}})`,
        ),
        stat(
          {
            title: 'Oldest page',
            description:
              'How old the scan behind a page is, at most over the hosts. Above three minutes scans do not end.',
            unit: 's',
            noData: 'No scan has ended.',
            redFrom: 180,
            width: 3,
            height: 6,
          },
          [`max(time() - peerscope_snapshot_timestamp_seconds{${TARGETS}})`, 'age'],
        ),
        stat(
          {
            title: 'Failing collectors',
            description: 'Parts of the last scans that did not see all that they should.',
            unit: 'short',
            noData: NO_EXPORTER,
            redFrom: 1,
            width: 3,
            height: 6,
          },
          [`sum(1 - peerscope_scrape_collector_success{${TARGETS}})`, 'failing'],
        ),
        stat(
          {
            title: 'Stores that are down',
            description: 'Exporters whose store of answers and first times fails.',
            unit: 'short',
            noData: 'No exporter has a store.',
            redFrom: 1,
            width: 3,
            height: 6,
          },
          [`sum(1 - peerscope_store_up{${TARGETS}})`, 'down'],
        ),
        stat(
          {
            title: 'Open breakers',
            description: 'Exporters that leave the ASN provider alone because it failed.',
            unit: 'short',
            noData: NO_PROVIDER,
            redFrom: 1,
            width: 3,
            height: 6,
          },
          [`sum(peerscope_asn_breaker_open{${TARGETS}})`, 'open'],
        ),
        stat(
          {
            title: 'Refused configurations',
            description:
              'Exporters whose file of rules, or of TLS and passwords, was changed to one that they cannot use.',
            unit: 'short',
            noData: 'No exporter has a configuration file.',
            redFrom: 1,
            width: 3,
            height: 6,
          },
          [`sum(1 - peerscope_config_current{${TARGETS}})`, 'rules'],
          [`sum(1 - peerscope_web_config_current{${TARGETS}})`, 'web'],
        ),
        stat(
          {
            title: 'Watches that are down',
            description: 'Watches of the Kubernetes API that do not work: new pods go by their UIDs meanwhile.',
            unit: 'short',
            noData: 'No exporter watches a cluster.',
            redFrom: 1,
            width: 3,
            height: 6,
          },
          [`sum(1 - peerscope_kubernetes_watch_up{${TARGETS}})`, 'down'],
        ),
      ],
    },
    {
      heading: 'Cost',
      panels: [
        lines(
          {
            title: 'Time of a scan',
            description: 'Time that each collector took in the last scan, on the slowest host.',
            unit: 's',
            noData: NO_EXPORTER,
            width: 12,
          },
          [`max by (collector) (peerscope_scrape_collector_duration_seconds{${TARGETS}})`, '{{collector}}'],
        ),
        lines(
          {
            title: 'CPU',
            description: 'CPU time that the exporters use, of one core.',
            unit: 'percentunit',
            noData: NO_OWN,
            width: 12,
          },
          [`sum by (instance) (rate(process_cpu_seconds_total{${TARGETS}}[$__rate_interval]))`, '{{instance}}'],
        ),
        lines(
          {
            title: 'Memory',
            description: 'Resident memory of the exporters.',
            unit: 'bytes',
            noData: NO_OWN,
            width: 12,
          },
          [`max by (instance) (process_resident_memory_bytes{${TARGETS}})`, '{{instance}}'],
        ),
        lines(
          {
            title: 'Delay of the event loop',
            description: 'How long an answer may wait because the exporter is busy.',
            unit: 's',
            noData: NO_OWN,
            width: 12,
          },
          [`max by (instance) (nodejs_eventloop_lag_seconds{${TARGETS}})`, '{{instance}}'],
        ),
        lines(
          {
            title: 'Series by family',
            description:
              'How much of the budget of each family is folded away, of its limit, on the worst host. Above zero, panels by owner and ASN do not show all.',
            unit: 'percentunit',
            noData: NO_EXPORTER,
            width: 12,
          },
          [`max by (family) (peerscope_series_folded{${TARGETS}} / peerscope_series_limit{${TARGETS}})`, '{{family}}'],
        ),
        lines(
          {
            title: 'OTLP',
            description: 'Exports by OTLP that the receiver took, and those that failed.',
            unit: 'cps',
            noData: 'No exporter sends by OTLP.',
            width: 12,
          },
          [`sum(rate(peerscope_otlp_exports_total{${TARGETS}}[$__rate_interval]))`, 'taken'],
          [`sum(rate(peerscope_otlp_export_failures_total{${TARGETS}}[$__rate_interval]))`, 'failed'],
        ),
      ],
    },
    {
      heading: 'What could not be seen',
      panels: [
        lines(
          {
            title: 'Sockets without a process',
            description:
              "By reason: permission (not root), no_descriptor (held by the kernel), vanished (the process was gone), other_pid_namespace (not the host's /proc), short_lived (closed before a scan saw it open: no fault).",
            unit: 'short',
            noData: NO_EXPORTER,
            width: 12,
          },
          [`sum by (reason) (peerscope_sockets_unattributed{${TARGETS}})`, '{{reason}}'],
        ),
        lines(
          {
            title: 'Network namespaces',
            description:
              'What the last scan did with them. Unchanged and empty ones cost nothing. Unreadable ones are missing from all totals. no_process: no process runs there.',
            unit: 'short',
            noData: NO_EXPORTER,
            width: 12,
          },
          [`sum by (status) (peerscope_network_namespaces{${TARGETS}})`, '{{status}}'],
        ),
        lines(
          {
            title: 'Guesses and duplicates',
            description:
              'Rows whose direction is a guess by port, and rows that the endpoints leave out because the other end was counted.',
            unit: 'short',
            noData: NO_EXPORTER,
            width: 12,
          },
          [`sum(peerscope_direction_guessed{${TARGETS}})`, 'directions guessed'],
          [`sum(peerscope_loopback_duplicates{${TARGETS}})`, 'loopback duplicates'],
        ),
        lines(
          {
            title: 'Malformed rows and worker failures',
            description:
              'Unreadable lines of socket tables and of whois replies, and failures of the thread that scans and renders.',
            unit: 'cps',
            noData: 'Two scrapes are needed.',
            width: 12,
          },
          [`sum by (source) (rate(peerscope_malformed_rows_total{${TARGETS}}[$__rate_interval]))`, '{{source}}'],
          [`sum(rate(peerscope_worker_failures_total{${TARGETS}}[$__rate_interval]))`, 'worker failures'],
        ),
      ],
    },
    {
      heading: 'ASN provider, cache and store',
      panels: [
        lines(
          {
            title: 'Hits of the cache',
            description: 'Lookups that the in-process cache answered, of all.',
            unit: 'percentunit',
            noData: NO_PROVIDER,
            width: 12,
          },
          [
            `sum(rate(peerscope_asn_cache_hits_total{${TARGETS}}[$__rate_interval])) / (sum(rate(peerscope_asn_cache_lookups_total{${TARGETS}}[$__rate_interval])) > 0)`,
            'hits',
          ],
        ),
        lines(
          {
            title: 'Entries and questions that wait',
            description: 'Networks in the in-process cache, and networks that wait for an answer.',
            unit: 'short',
            noData: NO_PROVIDER,
            width: 12,
          },
          [`sum(peerscope_asn_cache_entries{${TARGETS}})`, 'entries'],
          [`sum(peerscope_asn_pending{${TARGETS}})`, 'pending'],
        ),
        lines(
          {
            title: 'Sessions with the provider',
            description: 'Sessions held and failed, and masked network addresses that left the hosts.',
            unit: 'cps',
            noData: NO_PROVIDER,
            width: 12,
          },
          [
            `sum by (provider) (rate(peerscope_asn_queries_total{${TARGETS}}[$__rate_interval]))`,
            '{{provider}} sessions',
          ],
          [
            `sum by (provider) (rate(peerscope_asn_query_failures_total{${TARGETS}}[$__rate_interval]))`,
            '{{provider}} failures',
          ],
          [
            `sum by (provider) (rate(peerscope_asn_addresses_sent_total{${TARGETS}}[$__rate_interval]))`,
            '{{provider}} addresses sent',
          ],
        ),
        lines(
          {
            title: 'Stores',
            description: 'How many exporters can use their store of answers.',
            unit: 'short',
            noData: 'No exporter has a store.',
            width: 12,
          },
          [`sum by (store) (peerscope_store_up{${TARGETS}})`, '{{store}}'],
          [
            `sum by (store) (rate(peerscope_store_failures_total{${TARGETS}}[$__rate_interval]))`,
            '{{store}} failures a second',
          ],
        ),
      ],
    },
  ],
});
