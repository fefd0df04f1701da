/** Refuses a release whose base images are not given by their digest: node lint/base-images.ts IMAGE… */
const BY_DIGEST = /^[a-z0-9][a-z0-9.:/_-]*(?::[\w.-]+)?@sha256:[0-9a-f]{64}$/;

/** The images that are not given by a digest. */
export function looseImages(images: readonly string[]): readonly string[] {
  return images.filter((image) => !BY_DIGEST.test(image));
}

if (import.meta.main) {
  const images = process.argv.slice(2);
  const loose = looseImages(images);
  for (const image of loose) process.stderr.write(`Cannot build a release from "${image}": it has no sha256 digest\n`);
  if (images.length === 0) process.stderr.write('Cannot build a release: no base image is given\n');
  process.exitCode = loose.length > 0 || images.length === 0 ? 1 : 0;
}
