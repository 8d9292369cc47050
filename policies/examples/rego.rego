# Allow git to clone from GitHub only
allow {
  input.binary == "git"
  input.host == "github.com"
  input.port == 443
}
# Allow curl to POST to Slack API, deny everything else
allow {
  input.binary == "curl"
  input.host == "api.slack.com"
  input.method == "POST"
  startswith(input.path, "/api/chat.")
}
# Default deny — strict-by-default
default allow = false
