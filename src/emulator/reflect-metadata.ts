/**
 * The three functions of the Reflect metadata proposal that @peculiar/x509's dependency injection calls; it refuses to
 * load without them. Import this before it. A complete polyfill that is loaded already stays in place.
 */

type Metadata = Map<unknown, unknown>;

const metadataByTarget = new WeakMap<object, Metadata>();

function getOwnMetadata(key: unknown, target: object): unknown {
  return metadataByTarget.get(target)?.get(key);
}

function getMetadata(key: unknown, target: object): unknown {
  if (metadataByTarget.get(target)?.has(key) === true) return getOwnMetadata(key, target);
  const parent = Object.getPrototypeOf(target) as object | null;
  return parent === null ? undefined : getMetadata(key, parent);
}

function defineMetadata(key: unknown, value: unknown, target: object): void {
  const metadata: Metadata = metadataByTarget.get(target) ?? new Map();
  metadataByTarget.set(target, metadata.set(key, value));
}

if (!("getMetadata" in Reflect)) Object.assign(Reflect, { getMetadata, getOwnMetadata, defineMetadata });
