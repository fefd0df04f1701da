/** What the landing page tells. */
export interface Landing {
  readonly version: string;
  readonly telemetryPath: string;
}

/** The page at /: what this is, and where to go from here. */
export function renderLanding({ version, telemetryPath }: Landing): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>peerscope</title>
</head>
<body>
<h1>peerscope</h1>
<p>Caller ID for every connection on this node. Version ${escapeHtml(version)}.</p>
<ul>
<li><a href="${escapeHtml(telemetryPath)}">Metrics</a></li>
<li><a href="/-/healthy">Health</a></li>
<li><a href="/-/ready">Readiness</a></li>
</ul>
</body>
</html>
`;
}

/** Text made safe for HTML content and quoted attributes. */
export function escapeHtml(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&#39;',
  };
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? '');
}
