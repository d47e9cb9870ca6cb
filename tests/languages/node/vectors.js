"use strict";
// Runs the golden vectors: node vectors.js FOLDER. Prints how many cases of each list were run; fails at the first that
// comes out otherwise than its file says.
//
// Not run, because what they check is not used here: the lists `updates`, `roots` and proofs of the trees that only logs
// need (merkle.json but for leaves and roots), registry.json, receipts.json, commitment.json, settlement_entries.json,
// checkpoint.json; and `keys` of signatures.json, since node:crypto does not tell whether a point is in the prime-order
// subgroup.

const fs = require("node:fs");
const path = require("node:path");
const assert = require("node:assert/strict");
const bytes = require("./bytes");
const layouts = require("./layouts");

const folder = process.argv[2];
const counts = {};

// Runs `check` on every case of a list. It returns whether the case is valid, or nothing and throws Malformed.
function each(file, list, check) {
  const cases = JSON.parse(fs.readFileSync(path.join(folder, `${file}.json`), "utf8"))[list];
  cases.forEach((case_, place) => {
    let valid = true;
    try {
      valid = check(case_) ?? true;
    } catch (error) {
      if (!(error instanceof bytes.Malformed)) throw new Error(`${file}.${list}[${place}]: ${error.message}`);
      valid = false;
    }
    const expected = case_.valid ?? true;
    if (valid !== expected) throw new Error(`${file}.${list}[${place}], ${case_.why}: is ${valid}, not ${expected}`);
  });
  counts[`${file}.${list}`] = cases.length;
}

// --- from JSON and back --------------------------------------------------------------------------

function hex(value) {
  if (Array.isArray(value)) return Buffer.concat(value.map(hex));
  if (typeof value === "object") return Buffer.alloc(value.times * (value.repeat.length / 2), value.repeat, "hex");
  return Buffer.from(value, "hex");
}

// The record as the files write it: bytes in hex, long numbers in decimal.
function written(value) {
  if (Buffer.isBuffer(value)) return value.toString("hex");
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return value.map(written);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, written(field)]));
}

const same = (found, expected) => assert.deepEqual(written(found), expected);

const transactions = (list) =>
  list.map(({ namespace, payload }) => ({ namespace, payload: hex(payload) }));

const tip = ({ chain, height, hash, time_ms }) =>
  ({ chain: hex(chain), height: BigInt(height), hash: hex(hash), time_ms: BigInt(time_ms) });

const LEG_KINDS = ["", "TRANSFER", "BURN", "MINT"];
const VERDICTS = ["", "LOCKED", "REJECTED"];
const REASONS = {
  0: "NONE", 1: "INSUFFICIENT_FUNDS", 2: "UNKNOWN_ASSET", 3: "TOO_MANY_OPEN_LOCKS", 4: "BELOW_MINIMUM",
  5: "UNREADABLE_RECIPIENT", 255: "OTHER",
};
const named = (terms) => ({ ...terms, legs: terms.legs.map((leg) => ({ ...leg, kind: LEG_KINDS[leg.kind] })) });

// --- the files -----------------------------------------------------------------------------------

each("hashing", "numbers", ({ bits, value, encoded }) => same(bytes[`u${bits}`](value), encoded));
each("hashing", "lengths", ({ bits, value, encoded }) => {
  const found = bytes[`var${bits}`](hex(value));
  assert(found.equals(hex(encoded)));
});
each("hashing", "kinds", ({ kind, tag }) => same(bytes.tag(kind), tag));
each("hashing", "hashes", ({ kind, body, hash }) => same(bytes.taggedHash(kind, hex(body)), hash));

each("signatures", "signatures", ({ kind, seed, public_key, body, signature }) => {
  const key = new bytes.SigningKey(hex(seed));
  same(key.publicKey, public_key);
  same(key.sign(kind, hex(body)), signature);
  return bytes.isSignature(kind, hex(public_key), hex(body), hex(signature));
});
for (const list of ["verdicts", "speccheck"]) {
  each("signatures", list, ({ public_key, message, signature }) =>
    bytes.isSignatureOver(hex(public_key), hex(message), hex(signature)));
}

const { leaves } = JSON.parse(fs.readFileSync(path.join(folder, "merkle.json"), "utf8"));
each("merkle", "leaves", ({ data, leaf_hash }) => same(bytes.leafHash(hex(data)), leaf_hash));
each("merkle", "roots", ({ size, root }) =>
  same(bytes.rootOf(leaves.slice(0, size).map(({ leaf_hash }) => hex(leaf_hash))), root));
each("merkle_map", "proofs", ({ proof, root, key, value }) =>
  bytes.verifyMapProof(hex(proof), hex(root), hex(key), value === null ? null : hex(value)));

each("order", "namespaces", ({ name }) => layouts.isNamespace(name));
each("order", "transactions", ({ namespace, payload, hash }) =>
  same(layouts.transactionHash(namespace, hex(payload)), hash));
each("order", "bundles", (bundle) => {
  const id = layouts.bundleId(hex(bundle.chain), BigInt(bundle.valid_until_ms), transactions(bundle.transactions));
  same(id, bundle.bundle_id);
});
each("order", "entries", (case_) => {
  const encoded = hex(case_.encoded);
  const { payload, ...entry } = layouts.decodeEntry(encoded);
  const { index, first_index, count, valid_until_ms, bundle_id } = case_;
  same(entry, { index, first_index, count, valid_until_ms, bundle_id });
  assert(payload.length);
  same(layouts.entryLeafHash(case_.namespace, encoded), case_.leaf_hash);
});
each("order", "namespace_leaves", (case_) => {
  const decoded = layouts.decodeNamespaceLeaves(hex(case_.encoded));
  same(decoded, case_.leaves);
  const hashes = decoded.map(layouts.namespaceLeafHash);
  same(hashes, case_.leaf_hashes);
  same(bytes.rootOf(hashes), case_.data_root);
});

each("header", "headers", ({ encoded, fields, hash }) => {
  const header = layouts.decodeHeader(hex(encoded));
  same(header, fields);
  same(layouts.encodeHeader(header), encoded);
  same(layouts.headerHash(hex(encoded)), hash);
});
each("header", "signatures", ({ sequencer, encoded, signature }) =>
  bytes.isSignature("sign-header", hex(sequencer), hex(encoded), hex(signature)));
each("header", "continuations", ({ parent, encoded }) =>
  layouts.verifyContinues(layouts.decodeHeader(hex(encoded)), tip(parent)));

const share = (case_, wanted) => {
  const entries = new Map(Object.entries(case_.entries).map(([name, list]) => [name, list.map(hex)]));
  return layouts.verifyShare(hex(case_.header), hex(case_.leaves), entries, wanted, tip(case_.parent));
};
each("block", "blocks", (case_) => {
  const verified = share(case_, Object.keys(case_.entries));
  same(verified.hash, case_.hash);
  const chain = hex(case_.parent.chain);
  for (const { valid_until_ms, transactions: list, bundle_id } of case_.bundles) {
    same(layouts.bundleId(chain, BigInt(valid_until_ms), transactions(list)), bundle_id);
  }
});
each("block", "shares", (case_) => void share(case_, case_.wanted));

each("transactions", "transactions", ({ encoded, fields, signed, id }) => {
  const transaction = layouts.decodeTransaction(hex(encoded));
  same(transaction, fields);
  same(layouts.encodeTransaction(transaction), encoded);
  same(layouts.transactionId(transaction), id);
  assert.equal(layouts.isSigned(transaction), signed);
});
each("transactions", "calls", ({ method, arguments: encoded, fields }) => {
  const call = layouts.decodeCall(method, hex(encoded));
  same(call, fields);
  same(layouts.encodeCall(method, call), encoded);
});

each("terms", "terms", ({ encoded, fields, swap_id }) => {
  const terms = layouts.decodeTerms(hex(encoded));
  same(named(terms), fields);
  assert(layouts.encodeTerms(terms).equals(hex(encoded)));
  same(layouts.swapId(hex(encoded)), swap_id);
});

each("swap_entries", "entries", (case_) => {
  const { kind, fields } = layouts.decodeSwapEntry(hex(case_.encoded));
  assert.equal(kind, case_.kind);
  if (fields.terms) fields.terms = named(fields.terms);
  for (const item of fields.attestation?.items ?? []) {
    Object.assign(item, { verdict: VERDICTS[item.verdict], reason: REASONS[item.reason] });
  }
  // The longest one is told by its bytes alone.
  if (case_.fields) same(fields, case_.fields);
});

console.log(JSON.stringify(counts));
