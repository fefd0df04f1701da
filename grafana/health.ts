import { dashboard, UIDS } from './dashboard.ts';
import { bars, lines, MOST_LINES, stat, table, TARGETS } from './panels.ts';

const NO_EXPORTER = 'No exporter is scraped.';
const NO_PROVIDER = 'ASN lookups are off (--asn.provider=none).';
const NO_OWN = 'Metrics of the exporter process are off (--web.disable-exporter-metrics).';

export default dashboard({
  uid: UIDS.health,
  title: 'Exporter health',
  description: 'Resource usage of peerscope, what it could not read and why, and folded series.',
  sections: [
    {
      heading: 'Now',
      panels: [
        table(
          {
            title: 'Versions',
            description: 'The versions of each exporter and of its Node.js.',
            width: 6,
            height: 6,
          },
          {
            values: [
              {
                name: 'Exporters',
                unit: 'short',
                expr: `count by (version, node_version) (peerscope_build_info{${TARGETS}})`,
              },
            ],
            labels: ['version', 'node_version'],
          },
        ),
        stat(
          {
            title: 'Oldest scan',
            description: 'Age of the oldest scan that a host serves. Above three minutes, scans do not complete.',
            unit: 's',
            noData: 'No scan has completed.',
            redFrom: 180,
            width: 3,
            height: 6,
          },
          [`max(time() - peerscope_snapshot_timestamp_seconds{${TARGETS}})`, 'age'],
        ),
        stat(
          {
            title: 'Failing collectors',
            description: 'Collectors that failed or were incomplete in the last scan.',
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
            title: 'Stores down',
            description: 'Exporters with a failing store of ASN answers and first-seen times.',
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
            title: 'Lookups suspended',
            description: 'Exporters that have suspended queries to the ASN provider because they failed.',
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
            title: 'Rejected files',
            description:
              'Exporters with an invalid --config.file or --web.config.file. The previous configuration stays in effect.',
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
            title: 'Watches down',
            description: 'Failed watches of the Kubernetes API. New pods appear under their UIDs.',
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
            title: 'Scan duration',
            description: 'Duration of each collector in the last scan, on the slowest host.',
            unit: 's',
            noData: NO_EXPORTER,
            width: 12,
          },
          [`max by (collector) (peerscope_scrape_collector_duration_seconds{${TARGETS}})`, '{{collector}}'],
        ),
        lines(
          {
            title: 'CPU',
            description: 'CPU usage of the 20 busiest exporters, as a share of one core.',
            unit: 'percentunit',
            noData: NO_OWN,
            width: 12,
          },
          [
            `topk(${MOST_LINES}, sum by (cluster, instance) (rate(process_cpu_seconds_total{${TARGETS}}[$__rate_interval])))`,
            '{{instance}} {{cluster}}',
          ],
        ),
        lines(
          {
            title: 'Memory',
            description: 'Resident memory of the 20 largest exporters.',
            unit: 'bytes',
            noData: NO_OWN,
            width: 12,
          },
          [
            `topk(${MOST_LINES}, max by (cluster, instance) (process_resident_memory_bytes{${TARGETS}}))`,
            '{{instance}} {{cluster}}',
          ],
        ),
        lines(
          {
            title: 'Event loop delay',
            description: 'How long a request can wait because the exporter is busy, for the 20 slowest.',
            unit: 's',
            noData: NO_OWN,
            width: 12,
          },
          [
            `topk(${MOST_LINES}, max by (cluster, instance) (nodejs_eventloop_lag_seconds{${TARGETS}}))`,
            '{{instance}} {{cluster}}',
          ],
        ),
        bars(
          {
            title: 'Families near their limit',
            description:
              'Exported series of each family as a share of --series.limit, on the fullest host. At 100%, series fold into "other": panels by owner and ASN are incomplete.',
            unit: 'percentunit',
            noData: NO_EXPORTER,
            redFrom: 1,
            width: 12,
            height: 12,
          },
          [
            `topk(${MOST_LINES}, max by (family) (peerscope_series{${TARGETS}} / peerscope_series_limit{${TARGETS}}))`,
            '{{family}}',
          ],
        ),
        table(
          {
            title: 'Folded series',
            description:
              'The hosts and families with folded series, and how many. The table is empty if nothing is folded.',
            width: 12,
            height: 12,
          },
          {
            values: [
              {
                name: 'Folded series',
                unit: 'short',
                expr: `sum by (family, instance, cluster) (peerscope_series_folded{${TARGETS}}) > 0`,
              },
            ],
            labels: ['family', 'instance', 'cluster'],
          },
        ),
        lines(
          {
            title: 'Folded series by owner',
            description:
              'Pods, users and system units whose own series do not fit their share of the limit. They hide nothing of others.',
            unit: 'short',
            noData: 'No owner has folded series.',
            width: 12,
          },
          [`topk(5, max by (owner) (peerscope_owner_series_folded{${TARGETS}}))`, '{{owner}}'],
        ),
        lines(
          {
            title: 'OTLP',
            description: 'OTLP exports that succeeded and failed.',
            unit: 'cps',
            noData: 'No exporter uses OTLP.',
            width: 12,
          },
          [`sum(rate(peerscope_otlp_exports_total{${TARGETS}}[$__rate_interval]))`, 'taken'],
          [`sum(rate(peerscope_otlp_export_failures_total{${TARGETS}}[$__rate_interval]))`, 'failed'],
        ),
      ],
    },
    {
      heading: 'What could not be read',
      isCollapsed: true,
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
              'Network namespaces by scan status. Unchanged and empty ones cost nothing. Unreadable ones are missing from all totals. no_process: no process runs in it.',
            unit: 'short',
            noData: NO_EXPORTER,
            width: 12,
          },
          [`sum by (status) (peerscope_network_namespaces{${TARGETS}})`, '{{status}}'],
        ),
        lines(
          {
            title: 'Guessed directions and duplicates',
            description:
              'Rows with a direction that is guessed from the port, and rows that the endpoint family omits because the other end was counted.',
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
              'Lines of socket tables and whois replies that could not be parsed, and failures of the thread that scans and renders.',
            unit: 'cps',
            noData: 'Needs two scrapes.',
            width: 12,
          },
          [`sum by (source) (rate(peerscope_malformed_rows_total{${TARGETS}}[$__rate_interval]))`, '{{source}}'],
          [`sum(rate(peerscope_worker_failures_total{${TARGETS}}[$__rate_interval]))`, 'worker failures'],
        ),
      ],
    },
    {
      heading: 'ASN provider, cache and store',
      isCollapsed: true,
      panels: [
        lines(
          {
            title: 'Cache hit ratio',
            description: 'Share of lookups that the in-process cache answered.',
            unit: 'percentunit',
            noData: NO_PROVIDER,
            width: 12,
          },
          [
            `clamp_max(sum(rate(peerscope_asn_cache_hits_total{${TARGETS}}[$__rate_interval])) / (sum(rate(peerscope_asn_cache_lookups_total{${TARGETS}}[$__rate_interval])) > 0), 1)`,
            'hits',
          ],
        ),
        lines(
          {
            title: 'Cache entries and pending networks',
            description: 'Networks in the in-process cache, and networks that wait for a lookup.',
            unit: 'short',
            noData: NO_PROVIDER,
            width: 12,
          },
          [`sum(peerscope_asn_cache_entries{${TARGETS}})`, 'entries'],
          [`sum(peerscope_asn_pending{${TARGETS}})`, 'pending'],
        ),
        lines(
          {
            title: 'ASN provider sessions',
            description: 'All sessions, failed sessions, and masked network addresses that were sent.',
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
            description: 'Number of exporters with a working store.',
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
