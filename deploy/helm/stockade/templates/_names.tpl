{{- define "stockade.name" -}}
{{- if contains "stockade" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-stockade" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "stockade.selector" -}}
app.kubernetes.io/name: stockade
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "stockade.labels" -}}
{{ include "stockade.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "stockade.image" -}}
{{- with .Values.image -}}
{{ required "image.repository: no image is published; build one (deploy/docker/build.sh), push it to a registry of yours (deploy/docker/README.md), and name it: --set image.repository=registry.example.com/stockade/agent" .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- /* The settings file: what the values say, and where the page of metrics is. */}}
{{- define "stockade.settings" -}}
{{- $settings := merge (dict "version" 1) (deepCopy .Values.agent.settings) }}
{{- if .Values.metrics.enabled }}
{{- if (.Values.agent.settings.metrics | default dict).listen }}
{{- fail "agent.settings.metrics.listen: the probes ask at metrics.port; say metrics.port, which listen is made of" }}
{{- end }}
{{- $settings = merge $settings (dict "metrics" (dict "listen" (printf "0.0.0.0:%v" .Values.metrics.port))) }}
{{- end }}
{{- toYaml $settings }}
{{- end }}

{{- /* Since 1.30 a profile is a field; before, an annotation. */}}
{{- define "stockade.newAppArmor" -}}
{{- if semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version }}yes{{ end }}
{{- end }}
