{{- define "portcullis.name" -}}
{{- if contains "portcullis" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-portcullis" .Release.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "portcullis.selector" -}}
app.kubernetes.io/name: portcullis
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "portcullis.labels" -}}
{{ include "portcullis.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "portcullis.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* What is laid over the policy: where it listens, and `place`. */}}
{{- define "portcullis.place" -}}
{{- $listen := .Values.listen -}}
{{- $sockets := dict "admin" (printf "%s:%d" $listen.bind (int $listen.admin)) -}}
{{- range $kind := list "grpc" "http" }}
{{- with get $listen $kind }}
{{- $address := printf "%s:%d" $listen.bind (int .) }}
{{- if $listen.tls }}{{ $_ := set $sockets $kind (dict "address" $address "tls" $listen.tls) }}{{ else }}{{ $_ := set $sockets $kind $address }}{{ end }}
{{- end }}
{{- end -}}
{{- with $listen.public }}{{ $_ := set $sockets "public" (printf "%s:%d" $listen.bind (int .)) }}{{ end -}}
{{- $place := deepCopy .Values.place -}}
{{- if hasKey $place "listen" }}{{ fail "place.listen: the ports are set by `listen`" }}{{ end -}}
{{- $_ := set $place "listen" $sockets -}}
{{- if .Values.keyCache.enabled }}{{ $_ := set $place "key_cache" "/var/lib/portcullis/keys" }}{{ end -}}
{{ toYaml $place }}
{{- end }}

{{/* One probe: of the gRPC port's health service, or, since kubelets do not speak TLS to that, of the admin port. */}}
{{- define "portcullis.probe" -}}
{{- if .listen.tls -}}
httpGet: {port: admin, path: {{ .path }}}
{{- else -}}
grpc: {port: {{ int .listen.grpc }}}
{{- end }}
{{- end }}
