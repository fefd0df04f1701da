/** What Grafana's data source makes of an answer of Prometheus: one frame for a table, else one for each series. */
export function framesOf({ FieldType, toDataFrame }, panel, answers) {
  return answers.flatMap(({ target, result }) => {
    if (target.format !== 'table')
      return result.map(({ metric, values, value }) => {
        const points = values ?? [value];
        return toDataFrame({
          refId: target.refId,
          fields: [
            { name: 'Time', type: FieldType.time, values: points.map(([at]) => at * 1000), config: {} },
            {
              ...{ name: 'Value', type: FieldType.number, labels: metric },
              values: points.map(([, text]) => Number(text)),
              config: { displayNameFromDS: legendOf(target.legendFormat, metric) },
            },
          ],
        });
      });
    if (result.length === 0) return [];
    const labels = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))].sort();
    return toDataFrame({
      refId: target.refId,
      fields: [
        { name: 'Time', type: FieldType.time, values: result.map(({ value: [at] }) => at * 1000), config: {} },
        ...labels.map((name) => ({
          ...{ name, type: FieldType.string, config: {} },
          values: result.map(({ metric }) => metric[name] ?? ''),
        })),
        {
          // Grafana names the value after the query where there are several.
          name: panel.targets.length > 1 ? `Value #${target.refId}` : 'Value',
          ...{ type: FieldType.number, values: result.map(({ value: [, text] }) => Number(text)), config: {} },
        },
      ],
    });
  });
}

function legendOf(format, labels) {
  if (format) return format.replaceAll(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? '');
  return `{${Object.entries(labels).map(([name, value]) => `${name}="${value}"`)}}`;
}

/** The links of a value, with its labels or the fields of its row filled in. */
export function links(frame, field) {
  return ({ valueRowIndex = 0 } = {}) =>
    (field.config.links ?? []).map(({ title, url }) => {
      const fill = (text) =>
        text.replaceAll(
          /\$\{__(field\.labels|data\.fields)(?:\.(\w+)|\["([^"]+)"\])(?::percentencode)?\}/g,
          (...found) => {
            const [, of, word, quoted] = found;
            const name = word ?? quoted;
            if (of === 'field.labels') return encodeURIComponent(field.labels?.[name] ?? '');
            const other = frame.fields.find((one) => one.name === name || one.state?.displayName === name);
            return encodeURIComponent(other?.values[valueRowIndex] ?? '');
          },
        );
      return { title: fill(title), href: fill(url), target: '_self', origin: field };
    });
}
