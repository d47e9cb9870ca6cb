"use strict";
// The four services, from their schemas alone. Calls as promises, streams as they are; errors with our details.

const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");
const protobuf = require("protobufjs");

const DEADLINE_MS = 15_000;

// Numbers of 64 bits come as text, bytes as Buffers, and fields keep the schemas' names.
const LOADING = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };

function loadServices(folder) {
  const files = ["sequencer", "rollup", "settlement", "bridge"].map((name) => `lockstep/v1/${name}.proto`);
  const definition = protoLoader.loadSync(files, { ...LOADING, includeDirs: [path.resolve(folder)] });
  return grpc.loadPackageDefinition(definition).lockstep.v1;
}

function connect(Service, address) {
  return new Service(address, grpc.credentials.createInsecure(), { "grpc.max_receive_message_length": 3 << 20 });
}

function call(client, method, request) {
  return new Promise((resolve, reject) => {
    client[method](request, { deadline: Date.now() + DEADLINE_MS }, (failure, response) =>
      failure ? reject(withDetails(failure)) : resolve(response));
  });
}

// --- errors: google.rpc.Status in the trailers ----------------------------------------------------

const RPC = protobuf.parse(`
  syntax = "proto3"; package google.rpc;
  message Any { string type_url = 1; bytes value = 2; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message RetryInfo { Duration retry_delay = 1; }
`, { keepCase: true }).root;

// Adds `code_name`, `fields`, `retryable` and `retry_after_ms` to a failure of a call.
function withDetails(failure) {
  const [encoded] = failure.metadata.get("grpc-status-details-bin");
  failure.retryable = false;
  if (!encoded) return failure;
  for (const { type_url, value } of RPC.lookupType("google.rpc.Status").decode(encoded).details) {
    const type = RPC.lookupType(type_url.split("/")[1]);
    const detail = type.toObject(type.decode(value), { longs: Number });
    if (type.name === "ErrorInfo" && detail.domain === "lockstep") {
      failure.code_name = detail.reason;
      failure.fields = { ...detail.metadata };
    }
    if (type.name === "RetryInfo") {
      failure.retryable = true;
      const delay = detail.retry_delay;
      if (delay) failure.retry_after_ms = (delay.seconds ?? 0) * 1_000 + Math.round((delay.nanos ?? 0) / 1e6);
    }
  }
  return failure;
}

module.exports = { call, connect, loadServices };
