{{- define "peerscope.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "peerscope.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{/* Takes a list: the root context, and the component. */}}
{{- define "peerscope.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: peerscope
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Takes a list: the root context, the component, and labels of the user, which cannot replace those that selectors need. */}}
{{- define "peerscope.labels" -}}
{{- $root := index . 0 -}}
{{- $selected := include "peerscope.selectorLabels" . | fromYaml -}}
{{- $given := dict -}}
{{- if gt (len .) 2 -}}{{- $given = index . 2 -}}{{- end -}}
{{- $own := dict
  "app.kubernetes.io/part-of" "peerscope"
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "app.kubernetes.io/managed-by" $root.Release.Service
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{- toYaml (merge (dict) $selected $given $root.Values.commonLabels $own) -}}
{{- end -}}

{{/* Takes a list: the root context, the component, the suffix of the name, and labels of the user. For a namespaced object. */}}
{{- define "peerscope.metadata" -}}
{{- $root := index . 0 -}}
{{- $given := dict -}}
{{- if gt (len .) 3 -}}{{- $given = index . 3 -}}{{- end -}}
name: {{ include "peerscope.fullname" $root }}{{ index . 2 }}
namespace: {{ include "peerscope.namespace" $root }}
labels:
  {{- include "peerscope.labels" (list $root (index . 1) $given) | nindent 2 }}
{{- end -}}

{{- define "peerscope.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "peerscope.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Takes the values of an image, and a default tag. */}}
{{- define "peerscope.imageName" -}}
{{- $image := index . 0 -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default (index . 1) }}{{ end -}}
{{- end -}}

{{- define "peerscope.image" -}}
{{- $variant := .Values.image.variant -}}
{{- include "peerscope.imageName" (list .Values.image (ternary .Chart.AppVersion (printf "%s-%s" .Chart.AppVersion $variant) (eq $variant "ptrace"))) -}}
{{- end -}}

{{- define "peerscope.capabilities" -}}
{{- get (dict "none" "" "ptrace" "SYS_PTRACE" "search" "SYS_PTRACE, DAC_READ_SEARCH") .Values.image.variant -}}
{{- end -}}

{{/* The SELinux type of a container that sees other processes or makes a socket on the node. */}}
{{- define "peerscope.seLinuxType" -}}
{{- if eq .Values.platform "bottlerocket" -}}control_t{{- else if ne .Values.platform "talos" -}}spc_t{{- end -}}
{{- end -}}

{{- define "peerscope.securityContext" -}}
{{- $context := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) -}}
{{- with include "peerscope.capabilities" . -}}
{{- $_ := set $context.capabilities "add" (splitList ", " .) -}}
{{- end -}}
{{- if ne .Values.image.variant "none" -}}
{{- if not (has .Values.platform (list "openshift" "bottlerocket" "talos" "eks")) -}}
{{- $_ := set $context "appArmorProfile" (dict "type" "Unconfined") -}}
{{- end -}}
{{- with include "peerscope.seLinuxType" . -}}
{{- $_ := set $context "seLinuxOptions" (dict "type" .) -}}
{{- end -}}
{{- end -}}
{{- range $field, $value := .Values.containerSecurityContext -}}
{{- if kindIs "invalid" $value -}}{{- $_ := unset $context $field -}}{{- else -}}{{- $_ := set $context $field $value -}}{{- end -}}
{{- end -}}
{{- toYaml $context -}}
{{- end -}}

{{- define "peerscope.sharesStore" -}}
{{- if or .Values.valkey.enabled .Values.store.existingSecret }}yes{{ end -}}
{{- end -}}

{{- define "peerscope.asnProvider" -}}
{{- .Values.asnProvider | default (ternary "cymru" "none" (eq (include "peerscope.sharesStore" .) "yes")) -}}
{{- end -}}

{{/* What a node needs for a pod of the exporter or of the agent. */}}
{{- define "peerscope.scheduling" -}}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "peerscope.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ if kindIs "string" . }}{{ . }}{{ else }}{{ .name }}{{ end }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Takes a list: the root context, and the values of the monitor. */}}
{{- define "peerscope.endpoint" -}}
{{- $root := index . 0 -}}
{{- $monitor := index . 1 -}}
- port: metrics
  path: /metrics
  interval: {{ $monitor.interval }}
  scrapeTimeout: {{ $monitor.scrapeTimeout }}
  # Drops the namespace, pod and container of the target. Otherwise they would replace empty labels of connections.
  honorLabels: true
  {{- if $root.Values.webConfig.https }}
  scheme: https
  {{- end }}
  {{- range $field := list "tlsConfig" "basicAuth" "authorization" }}
  {{- with get $monitor $field }}
  {{ $field }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  relabelings:
    - { action: labeldrop, regex: pod|namespace|container|service|endpoint }
    - { action: replace, sourceLabels: [__meta_kubernetes_pod_node_name], targetLabel: instance }
    {{- with $monitor.relabelings }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $monitor.metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $monitor.extra }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Takes a list: the root context, and the values of the monitor. */}}
{{- define "peerscope.monitor" -}}
{{- $root := index . 0 -}}
{{- $monitor := index . 1 -}}
metadata:
  name: {{ include "peerscope.fullname" $root }}
  namespace: {{ $monitor.namespace | default (include "peerscope.namespace" $root) }}
  labels:
    {{- include "peerscope.labels" (list $root "exporter" $monitor.labels) | nindent 4 }}
  {{- with $monitor.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if not (hasKey $monitor.extraSpec "jobLabel") }}
  jobLabel: app.kubernetes.io/name
  {{- end }}
  {{- with $monitor.extraSpec }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- if and $monitor.namespace (ne $monitor.namespace (include "peerscope.namespace" $root)) }}
  namespaceSelector:
    matchNames: [{{ include "peerscope.namespace" $root }}]
  {{- end }}
  selector:
    matchLabels:
      {{- include "peerscope.selectorLabels" (list $root "exporter") | nindent 6 }}
  {{- range $field := list "sampleLimit" "labelLimit" "labelValueLengthLimit" "podTargetLabels" }}
  {{- with get $monitor $field }}
  {{ $field }}: {{ toJson . }}
  {{- end }}
  {{- end }}
{{- end -}}
