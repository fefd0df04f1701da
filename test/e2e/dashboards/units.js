// Formats values as the versions of Grafana do; for the browser.
import * as v10 from 'grafana-data-10';
import * as v11 from 'grafana-data-11';
import * as v12 from 'grafana-data-12';
import * as v13 from '@grafana/data';

window.VERSIONS = { v10, v11, v12, v13 };

/** The texts of cells: of values with the configuration of their fields. */
window.textsOf = (version, cells) => {
  const { getDisplayProcessor, createTheme, formattedValueToString } = window.VERSIONS[version];
  const theme = createTheme();
  return cells.map(({ type, config, value }) => {
    const field = { name: 'field', type, config: structuredClone(config), values: [value] };
    return formattedValueToString(getDisplayProcessor({ field, theme })(value));
  });
};
