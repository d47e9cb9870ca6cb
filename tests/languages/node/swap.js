"use strict";
// A whole swap as its two traders make it, and everything about it verified: node swap.js < SETTINGS.json
//
// Settings: `chain_id` (hex, what the traders trust), `schemas` (folder of the .proto files), `addresses` of `sequencer`,
// `bridge` and each rollup, `taker` and `maker` (seeds in hex), `give` and `get` (rollup, asset, amount: what the taker
// gives and gets). Prints what was found as JSON.
//
// Each trader's key is used for that trader's signatures alone; the coordinator gets signed locks, and the preimage last.

const crypto = require("node:crypto");
const fs = require("node:fs");
const { SigningKey, isSignature, require_, sha256, taggedHash, verifyMapProof } = require("./bytes");
const { call, connect, loadServices } = require("./client");
const layouts = require("./layouts");

const WITHIN_MS = 30_000n;
const SIGNATURE_KIND = "HEADER_PROOF_KIND_SEQUENCER_SIGNATURE";

// --- the order, verified -------------------------------------------------------------------------

// Checks a header's proof and returns the header.
function verifyHeader(chain, signed) {
  require_(signed.proof_kind === SIGNATURE_KIND, "an unknown proof");
  require_(isSignature("sign-header", chain.sequencer, signed.header, signed.proof), "the header is not the sequencer's");
  const header = layouts.decodeHeader(signed.header);
  require_(header.chain.equals(chain.id), "a header of another chain");
  return header;
}

// Follows the order from height 1, keeps each verified block, and wakes who waits for one.
class Follower {
  constructor(chain, client, namespaces) {
    this.blocks = new Map(); // height -> { header, hash, entries }
    this.waiting = [];
    this.tip = { chain: chain.id, height: 0n, hash: chain.id, time_ms: chain.genesis_time_ms };
    this.stream = client.StreamBlocks({ from_height: 1, namespaces });
    this.stream.on("data", ({ blocks }) => {
      try {
        for (const block of blocks) this.take(chain, block, namespaces);
      } catch (error) {
        this.fail(error);
      }
    });
    this.stream.on("error", (error) => this.fail(error));
  }

  take(chain, block, namespaces) {
    verifyHeader(chain, block.header);
    const entries = new Map(block.entries.map((share) => [share.namespace, share.entries]));
    const verified =
      layouts.verifyShare(block.header.header, block.namespace_leaves, entries, namespaces, this.tip);
    const { height, time_ms } = verified.header;
    this.tip = { chain: chain.id, height, hash: verified.hash, time_ms };
    this.blocks.set(height, verified);
    this.waiting = this.waiting.filter((each) => each.height > height || each.resolve(this.blocks.get(each.height)));
  }

  fail(error) {
    this.failure = error;
    for (const { reject } of this.waiting) reject(error);
  }

  block(height) {
    if (this.failure) return Promise.reject(this.failure);
    if (this.blocks.has(height)) return Promise.resolve(this.blocks.get(height));
    return new Promise((resolve, reject) => this.waiting.push({ height, resolve, reject }));
  }

  stop() {
    this.stream.removeAllListeners("error").on("error", () => {}); // what cancelling raises
    this.stream.cancel();
  }
}

// --- balances, proven ----------------------------------------------------------------------------

async function balance(chain, follower, client, account, asset, minHeight) {
  const answer = await call(client, "GetAccount", { account, assets: [asset], min_height: String(minHeight) });
  const header = verifyHeader(chain, answer.commitment.header);
  const commitment = layouts.decodeCommitment(answer.commitment.commitment);
  require_(commitment.height === header.height && header.height >= minHeight, "a commitment of another height");
  const followed = await follower.block(header.height);
  require_(followed.hash.equals(layouts.headerHash(answer.commitment.header.header)), "a header beside the order");
  const [{ amount, proof }] = answer.balances;
  const key = layouts.balanceKey(Buffer.from(asset, "ascii"), account);
  verifyMapProof(proof, commitment.state_root, key, amount === "0" ? null : encodeAmount(amount));
  return BigInt(amount);
}

const encodeAmount = (amount) => Buffer.from(BigInt(amount).toString(16).padStart(32, "0"), "hex");

// --- the swap ------------------------------------------------------------------------------------

const leg = ({ rollup, asset, amount }, sender, recipient) => ({
  rollup, kind: layouts.TRANSFER, sender, recipient, asset: Buffer.from(asset, "ascii"), amount: BigInt(amount),
});

function signLock(key, terms, swapId, place) {
  return layouts.signTransaction(key, {
    chain: terms.chain,
    rollup: terms.legs[place].rollup,
    valid_until_ms: terms.lock_by_ms,
    salt: terms.salt,
    method: layouts.METHODS.ESCROW_LOCK,
    arguments: layouts.encodeCall(layouts.METHODS.ESCROW_LOCK, { swap_id: swapId, leg: place }),
  });
}

// Waits until a swap is in one of `phases`, and returns it.
function reached(bridge, swapId, phases) {
  return new Promise((resolve, reject) => {
    const stream = bridge.WatchSwaps({ swap_ids: [swapId] });
    stream.on("error", reject);
    stream.on("data", ({ swaps }) => {
      const found = swaps.find(({ phase }) => phases.includes(phase));
      if (!found) return;
      resolve(found); // what cancelling raises comes too late to reject
      stream.cancel();
    });
  });
}

// Returns where the order has each entry of a swap: [kind or rollup, height, index].
function entriesOf(follower, swapId) {
  const found = [];
  for (const [height, { entries }] of follower.blocks) {
    for (const [namespace, list] of entries) {
      for (const { index, payload } of list) {
        const name = namespace === "_swap" ? nameOfSwapEntry(payload, swapId) : nameOfLock(payload, swapId);
        if (name) found.push([name, Number(height), index]);
      }
    }
  }
  return found.sort(([, height, index], [, otherHeight, otherIndex]) => height - otherHeight || index - otherIndex);
}

function nameOfSwapEntry(payload, swapId) {
  const { kind, fields } = layouts.decodeSwapEntry(payload);
  if (kind === "Attest") {
    const { rollup, items } = fields.attestation;
    return items.some((item) => item.swap_id.equals(swapId)) ? `Attest ${rollup}` : null;
  }
  return fields.swap_id.equals(swapId) ? kind : null;
}

function nameOfLock(payload, swapId) {
  const { rollup, method, arguments: encoded } = layouts.decodeTransaction(payload);
  if (method !== layouts.METHODS.ESCROW_LOCK) return null;
  return layouts.decodeCall(method, encoded).swap_id.equals(swapId) ? `Lock ${rollup}` : null;
}

async function main(settings) {
  const services = loadServices(settings.schemas);
  const sequencer = connect(services.Sequencer, settings.addresses.sequencer);
  const bridge = connect(services.Bridge, settings.addresses.bridge);
  const [give, get] = [settings.give, settings.get];
  const rollups = new Map(
    [give, get].map(({ rollup }) => [rollup, connect(services.Rollup, settings.addresses[rollup])]),
  );
  const [taker, maker] = [settings.taker, settings.maker].map((seed) => new SigningKey(Buffer.from(seed, "hex")));

  // 1. The chain: the genesis file hashes to the id that was given, and every process is of that chain.
  const { genesis } = await call(sequencer, "GetGenesis", {});
  const chainId = taggedHash("genesis", genesis);
  require_(chainId.toString("hex") === settings.chain_id, "this network has another genesis file");
  const read = JSON.parse(genesis);
  const chain = {
    id: chainId,
    sequencer: Buffer.from(read.sequencer.public_key, "hex"),
    genesis_time_ms: BigInt(read.genesis_time_ms),
  };
  for (const client of [sequencer, bridge, ...rollups.values()]) {
    const { chain_id } = await call(client, "GetStatus", {});
    require_(chain_id.equals(chainId), "a process of another chain");
  }
  const follower = new Follower(chain, sequencer, ["_swap", ...rollups.keys()].sort());

  // 2. What both have, proven.
  const balances = async (minHeight) => {
    const found = {};
    for (const [name, key] of [["taker", taker], ["maker", maker]]) {
      for (const { rollup, asset } of [give, get]) {
        const amount = await balance(chain, follower, rollups.get(rollup), key.publicKey, asset, minHeight);
        found[`${name} ${asset}`] = String(amount);
      }
    }
    return found;
  };
  const before = await balances(1n);

  // 3. Terms, whose preimage the taker keeps. Deadlines count from the newest header, not from a clock.
  const { time_ms } = await call(sequencer, "GetStatus", {});
  const preimage = crypto.randomBytes(32);
  const terms = {
    chain: chainId,
    legs: [leg(give, taker.publicKey, maker.publicKey), leg(get, maker.publicKey, taker.publicKey)],
    hashlock: sha256(preimage),
    lock_by_ms: BigInt(time_ms) + WITHIN_MS,
    expires_ms: BigInt(time_ms) + 2n * WITHIN_MS,
    revealer: taker.publicKey,
    premium: null,
    salt: crypto.randomBytes(16),
  };
  const encoded = layouts.encodeTerms(terms);
  const swapId = layouts.swapId(encoded);
  const proposed = await call(bridge, "Propose", { idempotency_key: swapId, terms: encoded });
  require_(proposed.swap.swap_id.equals(swapId) && proposed.swap.terms.equals(encoded), "another swap");

  // 4. Each signs its lock. Once both are attested, the taker reveals.
  await call(bridge, "Accept", { swap_id: swapId, leg: 0, lock: signLock(taker, terms, swapId, 0) });
  await call(bridge, "Accept", { swap_id: swapId, leg: 1, lock: signLock(maker, terms, swapId, 1) });
  const locked = await reached(bridge, swapId, ["SWAP_PHASE_LOCKED", "SWAP_PHASE_ABORTED", "SWAP_PHASE_LAPSED"]);
  require_(locked.phase === "SWAP_PHASE_LOCKED", `the swap is ${locked.phase}`);
  const revealed = await call(bridge, "Reveal", { swap_id: swapId, preimage });
  verifyHeader(chain, revealed.header);
  const decided = await reached(bridge, swapId, ["SWAP_PHASE_COMMITTED", "SWAP_PHASE_ABORTED"]);

  // 5. The same in the order, and in both rollups.
  const height = BigInt(decided.decided_height);
  await follower.block(height);
  const after = await balances(height);
  const entries = entriesOf(follower, swapId);

  // 6. An error, with what it says to a program.
  const refusal = await call(bridge, "GetSwap", { swap_id: Buffer.alloc(32) }).catch((failure) => failure);
  follower.stop();
  return {
    chain_id: chainId.toString("hex"),
    swap_id: swapId.toString("hex"),
    terms: encoded.toString("hex"),
    phase: decided.phase,
    decided_height: Number(height),
    revealed: [Number(revealed.placement.height), revealed.placement.first_index],
    blocks_verified: follower.blocks.size,
    tip: { height: Number(follower.tip.height), hash: follower.tip.hash.toString("hex") },
    entries,
    before,
    after,
    error: { code: refusal.code_name, fields: refusal.fields, retryable: refusal.retryable },
  };
}

main(JSON.parse(fs.readFileSync(0, "utf8"))).then(
  (found) => process.stdout.write(JSON.stringify(found) + "\n", () => process.exit(0)),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
