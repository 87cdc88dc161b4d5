{{/* Labels of every object. */}}
{{- define "weir.labels" -}}
app.kubernetes.io/part-of: weir
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A sync wave, where wanted: (list $ "-3"). */}}
{{- define "weir.wave" -}}
{{- if (index . 0).Values.syncWaves }}
argocd.argoproj.io/sync-wave: {{ index . 1 | quote }}
{{- end }}
{{- end }}

{{/* An image: (list $ .Values.agent.image). */}}
{{- define "weir.image" -}}
{{- $root := index . 0 }}{{ $image := index . 1 -}}
{{ $root.Values.image.registry }}/{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* The port of an address such as 0.0.0.0:9780 or [::]:9780. */}}
{{- define "weir.port" -}}
{{ regexFind "[0-9]+$" . }}
{{- end }}

{{/* A Certificate for one of our programs: (list $ "vyos-sync" (list "server auth")). */}}
{{- define "weir.certificate" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}{{ $usages := index . 2 -}}
{{- if and $root.Values.tls.enabled $root.Values.tls.issuer.name }}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    app.kubernetes.io/name: {{ $name }}
    {{- include "weir.labels" $root | nindent 4 }}
  {{- with include "weir.wave" (list $root "-3") }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
spec:
  secretName: {{ $name }}-tls
  duration: {{ $root.Values.tls.duration }}
  # Key and certificate are new at each renewal; both are swapped together.
  privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
  usages: {{ $usages | toJson }}
  dnsNames:
  - {{ $name }}.{{ $root.Release.Namespace }}.svc
  issuerRef:
    {{- toYaml $root.Values.tls.issuer | nindent 4 }}
{{- end }}
{{- end }}

{{/* How the kubelet asks for health: what to add to an httpGet. */}}
{{- define "weir.scheme" -}}
{{ if .Values.tls.enabled }}, scheme: HTTPS{{ end }}
{{- end }}
