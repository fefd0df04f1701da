/** The label value of series that the series budget folded together. */
export const OTHER = 'other';
