/** For each family a query to begin with; docs/metrics.md shows it, and the end-to-end tests run it. */
export const EXAMPLES: Readonly<Record<string, string>> = {
  peerscope_connections: 'topk(10, sum by (process, workload) (peerscope_connections))',
  peerscope_sockets: 'sum by (direction, network) (peerscope_sockets)',
  peerscope_asn_connections:
    'topk(10, sum by (asn) (peerscope_asn_connections{direction="outbound", network="public"})) * on (asn) group_left (as_name) group by (asn, as_name) (topk by (asn) (1, count by (asn, as_name) (peerscope_asn_info)))',
  peerscope_asn_info: 'count by (as_country) (peerscope_asn_info)',
  peerscope_endpoint_connections:
    'topk(10, sum by (endpoint_group) (peerscope_endpoint_connections{direction="outbound"}))',
  peerscope_loopback_duplicates: 'sum(peerscope_endpoint_connections) + sum(peerscope_loopback_duplicates)',
  peerscope_listener_accept_queue: 'max by (process, local_port) (peerscope_listener_accept_queue)',
  peerscope_listener_accept_stalled_seconds:
    'topk(10, max by (instance, process, local_port) (peerscope_listener_accept_stalled_seconds))',
  peerscope_ephemeral_ports_used_ratio:
    'topk(10, max by (process, namespace, workload) (peerscope_ephemeral_ports_used_ratio))',
  peerscope_socket_queue_bytes: 'sum by (process, queue) (peerscope_socket_queue_bytes)',
  peerscope_processes: 'sum by (process, umask) (peerscope_processes)',
  peerscope_process_threads: 'topk(10, sum by (process) (peerscope_process_threads))',
  peerscope_process_resident_memory_bytes: 'topk(10, sum by (process) (peerscope_process_resident_memory_bytes))',
  peerscope_process_open_fds: 'topk(10, sum by (process) (peerscope_process_open_fds))',
  peerscope_connections_opened_total: 'sum by (transport, direction) (rate(peerscope_connections_opened_total[5m]))',
  peerscope_connections_closed_total: 'sum by (transport, direction) (rate(peerscope_connections_closed_total[5m]))',
  peerscope_connection_coverage_ratio: 'min by (instance) (peerscope_connection_coverage_ratio)',
  peerscope_tcp_active_opens_total: 'sum by (instance) (rate(peerscope_tcp_active_opens_total[5m]))',
  peerscope_tcp_passive_opens_total: 'sum by (instance) (rate(peerscope_tcp_passive_opens_total[5m]))',
  peerscope_tcp_attempt_fails_total: 'sum by (namespace, pod) (rate(peerscope_tcp_attempt_fails_total[5m]))',
  peerscope_tcp_retransmitted_segments_total:
    'sum by (instance) (rate(peerscope_tcp_retransmitted_segments_total[5m]))',
  peerscope_tcp_listen_overflows_total: 'sum by (namespace, pod) (increase(peerscope_tcp_listen_overflows_total[5m]))',
  peerscope_udp_receive_buffer_errors_total:
    'sum by (namespace, pod) (increase(peerscope_udp_receive_buffer_errors_total[5m]))',
  peerscope_asn_sent_bytes_total:
    'topk(10, sum by (asn) (increase(peerscope_asn_sent_bytes_total{direction="outbound", network="public"}[1h])))',
  peerscope_asn_received_bytes_total:
    'topk(10, sum by (process, workload) (increase(peerscope_asn_received_bytes_total[1h])))',
  peerscope_asn_retransmitted_bytes_total:
    'sum by (asn) (increase(peerscope_asn_retransmitted_bytes_total[1h])) / sum by (asn) (increase(peerscope_asn_sent_bytes_total[1h]))',
  peerscope_asn_closed_connections_total:
    'topk(10, sum by (asn) (rate(peerscope_asn_closed_connections_total{direction="outbound"}[5m])))',
  peerscope_endpoint_sent_bytes_total:
    'topk(10, sum by (endpoint_group) (increase(peerscope_endpoint_sent_bytes_total[1h])))',
  peerscope_endpoint_received_bytes_total:
    'topk(10, sum by (endpoint_group) (increase(peerscope_endpoint_received_bytes_total[1h])))',
  peerscope_asn_round_trip_seconds:
    'sum by (asn) (rate(peerscope_asn_round_trip_seconds_sum[1h])) / sum by (asn) (rate(peerscope_asn_round_trip_seconds_count[1h]))',
  peerscope_netlink_up: 'min by (instance, scope) (peerscope_netlink_up)',
  peerscope_socket_events_total: 'sum by (instance) (rate(peerscope_socket_events_total[5m]))',
  peerscope_socket_event_overruns_total: 'sum by (instance) (increase(peerscope_socket_event_overruns_total[1h]))',
  peerscope_connections_closed_without_totals_total:
    'sum by (instance) (increase(peerscope_connections_closed_without_totals_total[1h]))',
  peerscope_novelty_timestamp_seconds:
    'sort_desc(max by (namespace, workload, kind, what, points) (peerscope_novelty_timestamp_seconds))',
  peerscope_novelties_total: 'sum by (namespace, workload, kind) (increase(peerscope_novelties_total[1d]))',
  peerscope_unusual_points: 'topk(10, max by (namespace, workload) (peerscope_unusual_points))',
  peerscope_workload_watched_since_timestamp_seconds:
    'time() - min by (namespace, workload) (peerscope_workload_watched_since_timestamp_seconds)',
  peerscope_asn_first_seen_timestamp_seconds:
    'time() - peerscope_asn_first_seen_timestamp_seconds{direction="outbound"} < 86400',
  peerscope_baseline_start_timestamp_seconds: 'time() - peerscope_baseline_start_timestamp_seconds',
  peerscope_sockets_unattributed: 'sum by (instance, reason) (peerscope_sockets_unattributed)',
  peerscope_direction_guessed: 'sum(peerscope_direction_guessed) / sum(peerscope_connections)',
  peerscope_network_namespaces: 'sum by (status) (peerscope_network_namespaces)',
  peerscope_malformed_rows_total: 'sum by (source) (increase(peerscope_malformed_rows_total[1h]))',
  peerscope_asn_cache_entries: 'max by (instance) (peerscope_asn_cache_entries)',
  peerscope_asn_cache_lookups_total: 'sum(rate(peerscope_asn_cache_lookups_total[5m]))',
  peerscope_asn_cache_hits_total:
    'sum(rate(peerscope_asn_cache_hits_total[5m])) / sum(rate(peerscope_asn_cache_lookups_total[5m]))',
  peerscope_series: 'max by (family) (peerscope_series / peerscope_series_limit)',
  peerscope_series_limit: 'max by (family) (peerscope_series_folded / peerscope_series_limit)',
  peerscope_series_folded: 'max by (family) (peerscope_series_folded)',
  peerscope_owner_series_folded: 'topk(5, max by (owner) (peerscope_owner_series_folded))',
  peerscope_scrape_collector_duration_seconds: 'max by (collector) (peerscope_scrape_collector_duration_seconds)',
  peerscope_scrape_collector_success: 'min by (collector) (peerscope_scrape_collector_success)',
  peerscope_snapshot_timestamp_seconds: 'time() - peerscope_snapshot_timestamp_seconds',
  peerscope_worker_failures_total: 'sum by (instance) (increase(peerscope_worker_failures_total[1h]))',
  peerscope_asn_pending: 'sum(peerscope_asn_pending)',
  peerscope_asn_queries_total: 'sum by (provider) (increase(peerscope_asn_queries_total[1h]))',
  peerscope_asn_query_failures_total: 'sum by (provider) (increase(peerscope_asn_query_failures_total[1h]))',
  peerscope_asn_addresses_sent_total: 'sum by (provider) (increase(peerscope_asn_addresses_sent_total[1d]))',
  peerscope_asn_breaker_open: 'sum(peerscope_asn_breaker_open)',
  peerscope_kubernetes_watch_up: 'min by (instance, resource) (peerscope_kubernetes_watch_up)',
  peerscope_kubernetes_ignored_expectations_total:
    'sum by (instance) (increase(peerscope_kubernetes_ignored_expectations_total[1d]))',
  peerscope_store_failures_total: 'sum by (instance, store) (increase(peerscope_store_failures_total[1h]))',
  peerscope_config_current: 'min by (instance) (peerscope_config_current)',
  peerscope_web_config_current: 'min by (instance) (peerscope_web_config_current)',
  peerscope_store_up: 'min by (instance, store) (peerscope_store_up)',
  peerscope_otlp_exports_total: 'sum by (instance) (rate(peerscope_otlp_exports_total[5m]))',
  peerscope_otlp_export_failures_total: 'sum by (instance) (rate(peerscope_otlp_export_failures_total[5m]))',
  peerscope_build_info: 'count by (version) (peerscope_build_info)',
};
