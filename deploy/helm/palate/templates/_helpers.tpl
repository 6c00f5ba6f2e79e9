{{- define "palate.labels" -}}
app.kubernetes.io/name: palate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "palate.selector" -}}
app.kubernetes.io/name: palate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "palate.edgeSelector" -}}
app.kubernetes.io/name: palate-edge
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "palate.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "palate.items" -}}
{{ .Values.server.itemsConfigMap | default (printf "%s-items" .Release.Name) }}
{{- end }}

{{/* No rights, and nothing that can be written but the volumes. The group is set on a volume only while it is new: the
release key is a file that its owner alone may read, and stays one. */}}
{{- define "palate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "palate.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
