{{- define "peerscope.env" -}}
{{- if or .Values.metadata .Values.otlp.endpoint }}
- name: NODE_NAME
  valueFrom: { fieldRef: { apiVersion: v1, fieldPath: spec.nodeName } }
{{- end }}
{{- if .Values.metadata }}
- name: POD_UID
  valueFrom: { fieldRef: { apiVersion: v1, fieldPath: metadata.uid } }
{{- end }}
{{- if .Values.otlp.endpoint }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.node.name=$(NODE_NAME)
{{- end }}
{{- if .Values.traffic }}
- name: PEERSCOPE_NETLINK_SOCKET
  value: /run/peerscope/sockets.sock
{{- end }}
{{- if .Values.valkey.enabled }}
- name: VALKEY_HOST
  value: {{ include "peerscope.fullname" . }}-valkey
- name: VALKEY_PASSWORD
  valueFrom: { secretKeyRef: { name: {{ .Values.valkey.existingSecret }}, key: exporter-password } }
- name: PEERSCOPE_STORAGE_URL
  value: rediss://exporter:$(VALKEY_PASSWORD)@$(VALKEY_HOST):6379
- name: PEERSCOPE_STORAGE_CA_FILE
  value: /etc/peerscope-valkey/ca.crt
{{- else if .Values.store.existingSecret }}
- name: PEERSCOPE_STORAGE_URL
  valueFrom: { secretKeyRef: { name: {{ .Values.store.existingSecret }}, key: {{ .Values.store.key }} } }
{{- if .Values.store.caSecret }}
- name: PEERSCOPE_STORAGE_CA_FILE
  value: /etc/peerscope-store/ca.crt
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
