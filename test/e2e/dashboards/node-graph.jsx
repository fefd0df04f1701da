// Grafana's node graph is not among its published components. This draws the same fields of the same frames:
// nodes on a circle with title, mainstat and secondarystat, and edges from source to target.
const column = (frame, name) => {
  const field = frame.fields.find((one) => one.name.toLowerCase() === name);
  return (i) => (field ? (field.display ? field.display(field.values[i]) : { text: field.values[i] }) : { text: '' });
};
const text = ({ text, suffix = '', prefix = '' }) => prefix + text + suffix;

export function NodeGraph({ frames, theme, width, height }) {
  const edges = frames.find(({ fields }) => fields.some(({ name }) => name === 'source'));
  const nodes = frames.find(
    ({ fields }) => fields.some(({ name }) => name === 'id') && !fields.some(({ name }) => name === 'source'),
  );
  if (!edges || !nodes) throw new Error('Cannot draw a node graph: it needs a frame of nodes and a frame of edges');
  const ids = Array.from({ length: nodes.length }, (_, i) => String(column(nodes, 'id')(i).text));
  const place = new Map(
    ids.map((id, i) => {
      const angle = (i / ids.length) * 2 * Math.PI;
      return [id, { x: width / 2 + Math.cos(angle) * width * 0.36, y: height / 2 + Math.sin(angle) * height * 0.4 }];
    }),
  );
  return (
    <svg width={width} height={height} fontSize={11} fill={theme.colors.text.primary} textAnchor="middle">
      {Array.from({ length: edges.length }, (_, i) => {
        const [from, to] = ['source', 'target'].map((name) => place.get(String(column(edges, name)(i).text)));
        if (!from || !to) throw new Error(`Cannot draw edge ${i}: one of its nodes is missing`);
        const mean = (a, b) => a * 0.6 + b * 0.4;
        return (
          <g key={i} data-edge>
            <line x1={from.x} y1={from.y} x2={to.x} y2={to.y} stroke={theme.colors.border.medium} />
            <text x={mean(from.x, to.x)} y={mean(from.y, to.y)} fill={theme.colors.text.secondary}>
              {text(column(edges, 'mainstat')(i))} {text(column(edges, 'secondarystat')(i))}
            </text>
          </g>
        );
      })}
      {ids.map((id, i) => {
        const { x, y } = place.get(id);
        return (
          <g key={id} data-node={id}>
            <circle cx={x} cy={y} r={16} fill={theme.colors.background.secondary} stroke={theme.colors.primary.main} />
            <text x={x} y={y + 4}>
              {text(column(nodes, 'mainstat')(i))}
            </text>
            <text x={x} y={y + 30}>
              {text(column(nodes, 'title')(i))}
            </text>
          </g>
        );
      })}
    </svg>
  );
}
