# Checks of pint (https://cloudflare.github.io/pint) for the rules in this folder:
#   pint --offline --config .pint.hcl lint --min-severity=info --fail-on=info peerscope.rules.yml peerscope-extra.rules.yml

# PeerscopeTargetDown finds the job by a part of its name: the operator for Prometheus, the chart and the packages give different names.
check "promql/regexp" {
  smelly = false
}

rule {
  match {
    kind = "alerting"
  }
  label "severity" {
    severity = "bug"
    required = true
    values   = ["critical", "warning", "info"]
  }
  annotation "summary" {
    severity = "bug"
    required = true
  }
  annotation "description" {
    severity = "bug"
    required = true
  }
  annotation "runbook_url" {
    severity = "bug"
    required = true
    value    = "https://github.com/peerscope/peerscope/blob/main/docs/runbooks/{{ $alert }}.md"
  }
}

# Clusters and jobs stay apart.
rule {
  aggregate ".+" {
    severity = "bug"
    keep     = ["cluster", "job"]
  }
}
