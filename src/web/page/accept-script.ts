/**
 * The script of the accept buttons, which are hidden without it. A button has the decision and the token in data attributes. Paths are
 * relative to the page, so they work behind a path prefix.
 */
export const ACCEPT_SCRIPT = `
for (const button of document.querySelectorAll('button[data-what]')) {
  button.hidden = false;
  button.addEventListener('click', async () => {
    const { namespace, workload, what, token } = button.dataset;
    button.disabled = true;
    const status = button.nextElementSibling;
    try {
      const response = await fetch('./api/v1/accept', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', 'X-Peerscope-Token': token },
        body: JSON.stringify({ namespace, workload, what, accept: true }),
      });
      const text = await response.text();
      let reason = text.trim();
      try { reason = JSON.parse(text).error ?? reason; } catch {}
      status.textContent = response.ok ? 'Accepted' : reason;
      button.hidden = response.ok;
    } catch {
      status.textContent = 'Cannot reach peerscope';
    }
    button.disabled = false;
  });
}
`;
