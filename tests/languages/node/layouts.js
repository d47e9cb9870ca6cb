"use strict";
// What travels inside the messages: sections 3 to 7 and 10 of protos/README.md.
//
// Fields have the names of the specification. A `decode` returns null-free records or throws Malformed; what it returns,
// `encode` turns into the same bytes.

const {
  Reader, ZERO_HASH, isSignature, leafHash, require_, rootOf, taggedHash, u8, u16, u32, u64, u128, var8,
} = require("./bytes");

const LIMIT = 1n << 63n; // heights and times lie below
const AMOUNT_MAX = (1n << 128n) - 1n;
const [PAYLOAD_BYTES_MAX, BUNDLE_BYTES_MAX, BLOCK_BYTES_MAX] = [65_536, 262_144, 2_097_152];
const [BUNDLE_MAX, BLOCK_MAX, NAMESPACES_MAX] = [32, 16_384, 1_024];
const ENTRY_PREFIX_BYTES = 50;
const TRANSFER = 1;
const METHODS = { BANK_TRANSFER: 0x0101, BANK_FAUCET: 0x0102, ESCROW_LOCK: 0x0201 };

const text = (bytes) => bytes.toString("latin1");
const isRollupId = (name) => /^[a-z0-9-]{1,32}$/.test(name);
const isNamespace = (name) => isRollupId(name) || ["_swap", "_registry", "_log"].includes(name);

function readRollup(reader) {
  const rollup = text(reader.var8(1, 32));
  require_(isRollupId(rollup), "no rollup's id");
  return rollup;
}

// --- section 3: bundles and entries --------------------------------------------------------------

const transactionHash = (namespace, payload) =>
  taggedHash("transaction", Buffer.concat([var8(Buffer.from(namespace, "ascii")), payload]));

function bundleId(chain, validUntilMs, transactions) {
  const sizes = transactions.map(({ payload }) => payload.length);
  require_(sizes.length >= 1 && sizes.length <= BUNDLE_MAX, "too few or too many transactions");
  require_(sizes.every((size) => size >= 1 && size <= PAYLOAD_BYTES_MAX), "a payload's size");
  require_(sizes.reduce((a, b) => a + b) <= BUNDLE_BYTES_MAX, "the bundle's size");
  require_(validUntilMs >= 1n && validUntilMs < LIMIT, "the window");
  require_(transactions.every(({ namespace }) => isNamespace(namespace)), "a namespace");
  const hashes = transactions.map(({ namespace, payload }) => transactionHash(namespace, payload));
  return taggedHash("bundle", Buffer.concat([chain, u64(validUntilMs), u16(hashes.length), ...hashes]));
}

function decodeEntry(encoded) {
  const reader = new Reader(encoded);
  const entry = {
    index: reader.u32(),
    first_index: reader.u32(),
    count: reader.u16(),
    valid_until_ms: reader.u64(),
    bundle_id: reader.take(32),
    payload: reader.rest(),
  };
  const { index, first_index, count, valid_until_ms, payload } = entry;
  require_(payload.length >= 1 && payload.length <= PAYLOAD_BYTES_MAX, "the payload's size");
  require_(count >= 1 && count <= BUNDLE_MAX && first_index + count <= BLOCK_MAX, "the bundle's place");
  require_(first_index <= index && index < first_index + count, "the entry is outside of its bundle");
  require_(valid_until_ms >= 1n && valid_until_ms < LIMIT, "the window");
  return entry;
}

const entryLeafHash = (namespace, encoded) =>
  leafHash(
    Buffer.concat([
      u8(0x01),
      encoded.subarray(0, ENTRY_PREFIX_BYTES),
      transactionHash(namespace, encoded.subarray(ENTRY_PREFIX_BYTES)),
    ]),
  );

const encodeNamespaceLeaf = (leaf) =>
  Buffer.concat([var8(Buffer.from(leaf.namespace, "ascii")), u32(leaf.count), leaf.root]);
const namespaceLeafHash = (leaf) => leafHash(Buffer.concat([u8(0x02), encodeNamespaceLeaf(leaf)]));

function decodeNamespaceLeaves(encoded) {
  const reader = new Reader(encoded);
  const leaves = Array.from({ length: reader.u16() }, () => {
    const leaf = { namespace: text(reader.var8()), count: reader.u32(), root: reader.take(32) };
    require_(isNamespace(leaf.namespace) && leaf.count >= 1, "no namespace with entries");
    return leaf;
  });
  reader.finish();
  for (let i = 1; i < leaves.length; i++) require_(leaves[i - 1].namespace < leaves[i].namespace, "not ascending");
  return leaves;
}

// --- section 4: headers --------------------------------------------------------------------------

const encodeHeader = (header) =>
  Buffer.concat([
    u16(1), header.chain, u64(header.height), header.parent_hash, u64(header.time_ms), header.data_root,
    u16(header.namespace_count), u32(header.bundle_count), u32(header.transaction_count), u64(header.payload_bytes),
  ]);

function decodeHeader(encoded) {
  const reader = new Reader(encoded);
  require_(reader.u16() === 1, "the version is unknown");
  const header = {
    chain: reader.take(32),
    height: reader.u64(),
    parent_hash: reader.take(32),
    time_ms: reader.u64(),
    data_root: reader.take(32),
    namespace_count: reader.u16(),
    bundle_count: reader.u32(),
    transaction_count: reader.u32(),
    payload_bytes: reader.u64(),
  };
  reader.finish();
  require_(header.height >= 1n && header.height < LIMIT && header.time_ms < LIMIT, "height or time");
  return header;
}

const headerHash = (encoded) => taggedHash("header", encoded);

// `parent` is { chain, height, hash, time_ms }; before height 1 it is the chain id at the genesis time.
function verifyContinues(header, parent) {
  require_(header.chain.equals(parent.chain), "another chain");
  require_(header.height === parent.height + 1n, "not the next height");
  require_(header.parent_hash.equals(parent.hash), "another parent");
  const advance = header.time_ms - parent.time_ms;
  require_(advance >= 1n && advance <= 2_000n, `log time advances by ${advance} ms`);
}

// --- sections 3 and 4: a follower's share of a block ---------------------------------------------

// Checks that a share is what the header commits to: everything of the wanted namespaces. `entries` maps
// namespaces to lists of encoded entries. Returns the header, its hash and the decoded entries.
function verifyShare(encodedHeader, encodedLeaves, entries, wanted, parent) {
  const header = decodeHeader(encodedHeader);
  verifyContinues(header, parent);
  const leaves = decodeNamespaceLeaves(encodedLeaves);
  require_(leaves.length === header.namespace_count, "namespaces are missing");
  require_(rootOf(leaves.map(namespaceLeafHash)).equals(header.data_root), "the leaves are not the header's");
  const transactions = leaves.reduce((sum, leaf) => sum + leaf.count, 0);
  require_(transactions === header.transaction_count, "the leaves' counts are not the header's");
  const encodedBytes = BigInt(header.transaction_count * ENTRY_PREFIX_BYTES) + header.payload_bytes;
  require_(header.namespace_count <= NAMESPACES_MAX && header.transaction_count <= BLOCK_MAX, "too much in a block");
  require_(encodedBytes <= BigInt(BLOCK_BYTES_MAX), "too large a block");
  const share = new Map();
  for (const namespace of wanted) {
    share.set(namespace, verifyNamespace(namespace, leaves.find((leaf) => leaf.namespace === namespace), entries));
  }
  verifyBundles(header, [...share.values()].flat());
  return { header, hash: headerHash(encodedHeader), entries: share };
}

function verifyNamespace(namespace, leaf, entries) {
  const encoded = entries.get(namespace) ?? [];
  require_(encoded.length === (leaf ? leaf.count : 0), `entries of ${namespace} are missing`);
  if (!leaf) return [];
  require_(encoded.every((entry) => entry.length > ENTRY_PREFIX_BYTES), "an entry without payload");
  const root = rootOf(encoded.map((entry) => entryLeafHash(namespace, entry)));
  require_(root.equals(leaf.root), `the entries of ${namespace} are not the block's`);
  const decoded = encoded.map(decodeEntry);
  for (let i = 1; i < decoded.length; i++) require_(decoded[i - 1].index < decoded[i].index, "not in order");
  return decoded;
}

// The bundles of a block take its indexes one after the other, and what is not seen has room between those that are.
function verifyBundles(header, entries) {
  const bundles = new Map();
  for (const entry of entries) {
    const known = bundles.get(text(entry.bundle_id)) ?? entry;
    const agree = ["first_index", "count", "valid_until_ms"].every((field) => known[field] === entry[field]);
    require_(agree, "entries disagree about their bundle");
    bundles.set(text(entry.bundle_id), known);
  }
  require_(new Set(entries.map((entry) => entry.index)).size === entries.length, "two entries share an index");
  const ranges = [...bundles.values()].sort((a, b) => a.first_index - b.first_index);
  let [end, bundlesMin, room] = [0, 0, 0];
  for (const { first_index, count } of [...ranges, { first_index: header.transaction_count, count: 0 }]) {
    require_(first_index >= end, "bundles overlap or reach beyond the block");
    bundlesMin += Math.ceil((first_index - end) / BUNDLE_MAX);
    room += first_index - end;
    end = first_index + count;
  }
  const unseenBundles = header.bundle_count - bundles.size;
  require_(bundlesMin <= unseenBundles && unseenBundles <= room, "the header counts other bundles");
  const unseen = BigInt(header.transaction_count - entries.length);
  const unseenBytes = header.payload_bytes - BigInt(entries.reduce((sum, { payload }) => sum + payload.length, 0));
  const fits = unseen <= unseenBytes && unseenBytes <= unseen * BigInt(PAYLOAD_BYTES_MAX);
  require_(fits, "the header counts other bytes");
}

// --- section 5: transactions of rollups ----------------------------------------------------------

const encodeTransaction = (t) => Buffer.concat([t.signature, encodeTransactionBody(t)]);
const encodeTransactionBody = (t) =>
  Buffer.concat([
    u8(1), t.chain, var8(Buffer.from(t.rollup, "ascii")), t.signer, u64(t.valid_until_ms), t.salt, u16(t.method),
    t.arguments,
  ]);

function decodeTransaction(encoded) {
  const reader = new Reader(encoded);
  const signature = reader.take(64);
  reader.version(1);
  return {
    signature,
    chain: reader.take(32),
    rollup: readRollup(reader),
    signer: reader.take(32),
    valid_until_ms: reader.u64(),
    salt: reader.take(16),
    method: reader.u16(),
    arguments: reader.rest(),
  };
}

const transactionId = (t) => taggedHash("rollup-transaction", encodeTransactionBody(t));
const isSigned = (t) => isSignature("sign-transaction", t.signer, encodeTransactionBody(t), t.signature);

// Returns the payload for the order: `fields` are all but signer and signature.
function signTransaction(key, fields) {
  const unsigned = { ...fields, signer: key.publicKey };
  const signature = key.sign("sign-transaction", encodeTransactionBody(unsigned));
  return encodeTransaction({ ...unsigned, signature });
}

function encodeCall(method, call) {
  if (method === METHODS.BANK_TRANSFER) {
    return Buffer.concat([var8(call.asset), call.recipient, u128(call.amount), var8(call.memo)]);
  }
  if (method === METHODS.BANK_FAUCET) return Buffer.concat([var8(call.asset), u128(call.amount)]);
  return Buffer.concat([call.swap_id, u8(call.leg)]);
}

function decodeCall(method, encoded) {
  const reader = new Reader(encoded);
  const call = {};
  if (method === METHODS.ESCROW_LOCK) {
    Object.assign(call, { swap_id: reader.take(32), leg: reader.u8() });
  } else {
    call.asset = reader.var8(1, 32);
    if (method === METHODS.BANK_TRANSFER) call.recipient = reader.take(32);
    call.amount = reader.u128();
    if (method === METHODS.BANK_TRANSFER) call.memo = reader.var8(0, 64);
  }
  reader.finish();
  return call;
}

// --- section 6: terms ----------------------------------------------------------------------------

const encodeLeg = (leg) =>
  Buffer.concat([
    var8(Buffer.from(leg.rollup, "ascii")), u8(leg.kind), var8(leg.sender), var8(leg.recipient), var8(leg.asset),
    u128(leg.amount),
  ]);

function encodePremium(premium) {
  if (premium === null) return u8(0);
  const shares = premium.shares.map(({ recipient, amount }) => Buffer.concat([var8(recipient), u128(amount)]));
  return Buffer.concat([u8(1), u8(premium.leg), u8(shares.length), ...shares]);
}

const encodeTerms = (terms) =>
  Buffer.concat([
    u8(1), terms.chain, u8(terms.legs.length), ...terms.legs.map(encodeLeg), terms.hashlock, u64(terms.lock_by_ms),
    u64(terms.expires_ms), terms.revealer, encodePremium(terms.premium), terms.salt,
  ]);

function readAmount(reader) {
  const amount = reader.u128();
  require_(amount >= 1n, "an amount of zero");
  return amount;
}

function readLeg(reader) {
  const leg = {
    rollup: readRollup(reader),
    kind: reader.u8(),
    sender: reader.var8(1, 64),
    recipient: reader.var8(1, 64),
    asset: reader.var8(1, 32),
    amount: readAmount(reader),
  };
  require_([1, 2, 3].includes(leg.kind), "the leg's kind is unknown");
  require_(!leg.sender.equals(leg.recipient), "the recipient is the sender");
  return leg;
}

function readPremium(reader, legs) {
  const present = reader.u8();
  require_(present <= 1, "more than one premium");
  if (!present) return null;
  const [leg, count] = [reader.u8(), reader.u8()];
  require_(leg < legs.length && count >= 1 && count <= 16, "the premium's leg or recipients");
  const shares = Array.from({ length: count }, () => ({ recipient: reader.var8(1, 64), amount: readAmount(reader) }));
  const total = shares.reduce((sum, { amount }) => sum + amount, legs[leg].amount);
  require_(total <= AMOUNT_MAX, "amount and premium exceed u128");
  return { leg, shares };
}

function decodeTerms(encoded) {
  const reader = new Reader(encoded);
  reader.version(1);
  const [chain, count] = [reader.take(32), reader.u8()];
  require_(count >= 2 && count <= 16, `${count} legs`);
  const legs = Array.from({ length: count }, () => readLeg(reader));
  const terms = {
    chain,
    legs,
    hashlock: reader.take(32),
    lock_by_ms: reader.u64(),
    expires_ms: reader.u64(),
    revealer: reader.take(32),
    premium: readPremium(reader, legs),
    salt: reader.take(16),
  };
  reader.finish();
  require_(!terms.hashlock.equals(ZERO_HASH), "a hashlock of zeros");
  require_(terms.lock_by_ms + 5_000n <= terms.expires_ms && terms.expires_ms < LIMIT, "the deadlines");
  return terms;
}

const swapId = (encodedTerms) => taggedHash("swap", encodedTerms);

// --- section 7: entries of `_swap` ---------------------------------------------------------------

const KINDS = ["", "Open", "Attest", "Reveal", "Cancel"];

const encodeSwapEntry = (kind, rest) => Buffer.concat([u8(1), u8(KINDS.indexOf(kind)), rest]);

function decodeSwapEntry(encoded) {
  const reader = new Reader(encoded);
  reader.version(1);
  const kind = KINDS[reader.u8()];
  require_(kind, "the entry's kind is unknown");
  const fields = {};
  if (kind === "Open") {
    fields.terms_bytes = reader.rest();
    fields.terms = decodeTerms(fields.terms_bytes);
    fields.swap_id = swapId(fields.terms_bytes);
  } else if (kind === "Reveal") {
    Object.assign(fields, { swap_id: reader.take(32), preimage: reader.take(32) });
  } else {
    Object.assign(fields, { signature: reader.take(64), body: reader.rest() });
    if (kind === "Attest") fields.attestation = decodeAttestation(fields.body);
    else {
      const body = new Reader(fields.body);
      Object.assign(fields, { chain: body.take(32), swap_id: body.take(32) });
      body.finish();
    }
  }
  reader.finish();
  return { kind, fields };
}

function decodeAttestation(body) {
  const reader = new Reader(body);
  const attestation = {
    chain: reader.take(32),
    rollup: readRollup(reader),
    attester: reader.take(32),
    executed_height: reader.u64(),
    header_hash: reader.take(32),
  };
  const count = reader.u16();
  require_(attestation.executed_height >= 1n && attestation.executed_height < LIMIT, "the executed height");
  require_(count >= 1 && count <= 1_024, `${count} items`);
  attestation.items = Array.from({ length: count }, () => ({
    swap_id: reader.take(32), leg: reader.u8(), verdict: reader.u8(), reason: reader.u8(),
  }));
  reader.finish();
  const name = ({ swap_id, leg }) => Buffer.concat([swap_id, u8(leg)]);
  attestation.items.forEach((item, i) => {
    const rejected = [1, 2, 3, 4, 5, 255].includes(item.reason);
    require_(item.verdict === 1 ? item.reason === 0 : item.verdict === 2 && rejected, "verdict or reason");
    require_(i === 0 || name(attestation.items[i - 1]).compare(name(item)) < 0, "items are not ascending");
  });
  return attestation;
}

// --- section 10: commitments and balances --------------------------------------------------------

function decodeCommitment(encoded) {
  const reader = new Reader(encoded);
  const commitment = {
    rollup: readRollup(reader),
    height: reader.u64(),
    state_root: reader.take(32),
    receipt_count: reader.u64(),
    receipts_root: reader.take(32),
    register_root: reader.take(32),
  };
  reader.finish();
  return commitment;
}

const balanceKey = (asset, account) => Buffer.concat([u8(0x01), var8(asset), account]);

module.exports = {
  METHODS, TRANSFER, balanceKey, bundleId, decodeCall, decodeCommitment, decodeEntry, decodeHeader,
  decodeNamespaceLeaves, decodeSwapEntry, decodeTerms, decodeTransaction, encodeCall, encodeHeader, encodeSwapEntry,
  encodeTerms, encodeTransaction, entryLeafHash, headerHash, isNamespace, isSigned, namespaceLeafHash, signTransaction,
  swapId, transactionHash, transactionId, verifyContinues, verifyShare,
};
