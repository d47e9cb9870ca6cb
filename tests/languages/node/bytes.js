"use strict";
// Numbers, lengths, hashes, signatures and trees: sections 1 and 2 of protos/README.md.
//
// Needs nothing but Node. Numbers of up to 32 bits are numbers, longer ones BigInts; bytes are Buffers.

const crypto = require("node:crypto");

const ZERO_HASH = Buffer.alloc(32);

class Malformed extends Error {}

function require_(condition, reason) {
  if (!condition) throw new Malformed(reason);
}

// --- numbers and lengths -------------------------------------------------------------------------

function bigEndian(bytes) {
  return (value) => {
    const number = BigInt(value);
    require_(number >= 0n && number < 1n << BigInt(8 * bytes), `${value} does not fit ${bytes} bytes`);
    return Buffer.from(number.toString(16).padStart(2 * bytes, "0"), "hex");
  };
}

const [u8, u16, u32, u64, u128] = [1, 2, 4, 8, 16].map(bigEndian);

const var8 = (value) => Buffer.concat([u8(value.length), value]);
const var16 = (value) => Buffer.concat([u16(value.length), value]);
const var32 = (value) => Buffer.concat([u32(value.length), value]);

// Takes bytes apart from front to back. Strict: `finish` insists that none is left over.
class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  take(count) {
    require_(this.at + count <= this.bytes.length, "bytes are missing");
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  rest() {
    return this.take(this.bytes.length - this.at);
  }

  u8() {
    return this.take(1).readUInt8();
  }

  u16() {
    return this.take(2).readUInt16BE();
  }

  u32() {
    return this.take(4).readUInt32BE();
  }

  u64() {
    return this.take(8).readBigUInt64BE();
  }

  u128() {
    return (this.u64() << 64n) | this.u64();
  }

  var8(min = 0, max = 255) {
    const length = this.u8();
    require_(min <= length && length <= max, `a length of ${length}, allowed are ${min} to ${max}`);
    return this.take(length);
  }

  version(expected) {
    const found = this.u8();
    require_(found === expected, `version ${found} is unknown`);
  }

  finish() {
    require_(this.at === this.bytes.length, "bytes are left over");
  }
}

// --- hashes and signatures -----------------------------------------------------------------------

const sha256 = (...parts) => {
  const hash = crypto.createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
};

const tag = (kind) => Buffer.from(`lockstep/v1/${kind}\0`, "ascii");
const taggedHash = (kind, body) => sha256(tag(kind), body);

// Node takes keys as DER; these are the fixed bytes in front of a raw seed and a raw public key.
const PRIVATE_KEY = Buffer.from("302e020100300506032b657004220420", "hex");
const PUBLIC_KEY = Buffer.from("302a300506032b6570032100", "hex");

class SigningKey {
  constructor(seed) {
    const key = Buffer.concat([PRIVATE_KEY, seed]);
    this.key = crypto.createPrivateKey({ key, format: "der", type: "pkcs8" });
    this.publicKey = crypto.createPublicKey(this.key).export({ format: "der", type: "spki" }).subarray(-32);
  }

  sign(kind, body) {
    return crypto.sign(null, Buffer.concat([tag(kind), body]), this.key);
  }
}

const isSignature = (kind, publicKey, body, signature) =>
  isSignatureOver(publicKey, Buffer.concat([tag(kind), body]), signature);

// The one verifier of section 2. OpenSSL bounds S and compares R byte for byte; that A is canonical and neither A nor R
// of small order is looked up here.
function isSignatureOver(publicKey, message, signature) {
  if (publicKey.length !== 32 || signature.length !== 64) return false;
  if (!isCanonicalPoint(publicKey)) return false;
  if (isOfSmallOrder(publicKey) || isOfSmallOrder(signature.subarray(0, 32))) return false;
  const key = Buffer.concat([PUBLIC_KEY, publicKey]);
  return crypto.verify(null, message, crypto.createPublicKey({ key, format: "der", type: "spki" }), signature);
}

const FIELD_PRIME = (1n << 255n) - 19n;

// The eight points of small order, without the sign of x.
const SMALL_ORDER = new Set([
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
]);

function withoutSign(point) {
  const bytes = Buffer.from(point);
  bytes[31] &= 0x7f;
  return bytes;
}

const isOfSmallOrder = (point) => SMALL_ORDER.has(withoutSign(point).toString("hex"));

function isCanonicalPoint(point) {
  return BigInt("0x" + withoutSign(point).reverse().toString("hex")) < FIELD_PRIME;
}

// --- trees ---------------------------------------------------------------------------------------

const leafHash = (data) => sha256(Buffer.from([0x00]), data);
const nodeHash = (left, right) => sha256(Buffer.from([0x01]), left, right);

// The root of an RFC 6962 tree. A last node without a sibling moves up as it is.
function rootOf(leafHashes) {
  if (!leafHashes.length) return sha256();
  let level = leafHashes;
  while (level.length > 1) {
    const above = [];
    for (let i = 0; i < level.length; i += 2) {
      above.push(i + 1 < level.length ? nodeHash(level[i], level[i + 1]) : level[i]);
    }
    level = above;
  }
  return level[0];
}

// Checks that a map under `root` holds `value` under `key`, or with null that it does not hold the key. The proof's
// layout and the tree's definition are in protos/lockstep/merkle_map.py.
function verifyMapProof(proof, root, key, value) {
  const reader = new Reader(proof);
  reader.version(1);
  const [kind, depth] = [reader.u8(), reader.u16()];
  require_([1, 2, 3].includes(kind) && depth <= 256, "no such proof");
  require_((kind === 1) === (value !== null), "the proof does not answer what was asked");
  const bitmap = reader.take(Math.ceil(depth / 8));
  const bit = (bytes, place) => (bytes[place >> 3] >> (7 - (place & 7))) & 1;
  for (let place = depth; place < 8 * bitmap.length; place++) require_(!bit(bitmap, place), "bits beyond the depth");
  require_(depth === 0 || bit(bitmap, depth - 1), "the path would end higher up");
  const siblings = [];
  for (let place = 0; place < depth; place++) {
    const sibling = bit(bitmap, place) ? reader.take(32) : ZERO_HASH;
    require_(!bit(bitmap, place) || !sibling.equals(ZERO_HASH), "an empty sibling");
    siblings.push(sibling);
  }
  const keyHash = sha256(Buffer.from([0x10]), key);
  const leaf = (hashedKey, hashedValue) => sha256(Buffer.from([0x11]), hashedKey, hashedValue);
  let computed = ZERO_HASH;
  if (kind === 1) computed = leaf(keyHash, sha256(Buffer.from([0x12]), value));
  if (kind === 3) {
    const [otherKey, otherValue] = [reader.take(32), reader.take(32)];
    require_(!otherKey.equals(keyHash), "the disclosed leaf is the key's own");
    for (let place = 0; place < depth; place++) {
      require_(bit(otherKey, place) === bit(keyHash, place), "the disclosed leaf does not lie on the path");
    }
    computed = leaf(otherKey, otherValue);
  }
  reader.finish();
  for (let place = depth - 1; place >= 0; place--) {
    const pair = bit(keyHash, place) ? [siblings[place], computed] : [computed, siblings[place]];
    computed = sha256(Buffer.from([0x13]), ...pair);
  }
  require_(computed.equals(root), "the proof leads to another root");
}

module.exports = {
  Malformed, Reader, SigningKey, ZERO_HASH, isSignature, isSignatureOver, leafHash, nodeHash, require_, rootOf, sha256,
  tag, taggedHash, u8, u16, u32, u64, u128, var8, var16, var32, verifyMapProof,
};
