/**
 * Runs the service for a test that is not written in TypeScript: one JSON message a line, in on stdin, out on stdout.
 *
 * The test owns the time. Every message to here carries `now`; where the service would wait, the test is told so and
 * answers with `wake`, so nothing waits for real and every run is the same.
 */

import { createInterface } from "node:readline";

import { DynamoDBClient, type GetItemCommandInput } from "@aws-sdk/client-dynamodb";

import { ContainerManagerService, type Clock, type Tables } from "../container-manager.service.js";
import { OriginalContainerManager } from "./original.mjs";

type Message =
  | { connect: string; tables: Tables }
  | { call: number; of: "service" | "original"; method: string; args: unknown[]; now: number }
  | { wake: number; now: number }
  | { abort: number; reason: string }
  | { trouble: Trouble };

/** What happens to the next `times` commands of a name: an error of that name, before or after they took effect. */
interface Trouble {
  command: string;
  error: string;
  reasons?: string[];
  times: number;
  afterwards?: boolean;
}

/** Stands in a call's arguments for the signal that `abort` sets off. */
const SIGNAL = "<signal>";

let now = 0;
let world: { dynamodb: DynamoDBClient; tables: Tables } | undefined;
let troubles: Trouble[] = [];
let pauses = 0;
const wakers = new Map<number, () => void>();
const aborters = new Map<number, AbortController>();

function say(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

function connect(endpoint: string): DynamoDBClient {
  const client = new DynamoDBClient({
    endpoint,
    region: "eu-west-1",
    credentials: { accessKeyId: "testing", secretAccessKey: "testing" },
    maxAttempts: 1,
  });
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const weak = context.commandName === "GetItemCommand" && !(args.input as GetItemCommandInput).ConsistentRead;
      if (weak) throw new Error("a read that may be stale decides nothing");
      const trouble = troubles.find((t) => `${t.command}Command` === context.commandName && t.times > 0);
      if (trouble) trouble.times -= 1;
      if (trouble && !trouble.afterwards) throw errorOf(trouble);
      const output = await next(args);
      if (trouble) throw errorOf(trouble);
      return output;
    },
    { step: "initialize" },
  );
  return client;
}

function errorOf(trouble: Trouble): Error {
  const error = new Error(`${trouble.error}, as told`);
  error.name = trouble.error;
  return Object.assign(error, trouble.reasons && { CancellationReasons: trouble.reasons.map((Code) => ({ Code })) });
}

function clockOf(call: number): Clock {
  return {
    now: () => now,
    wait: (ms, signal) =>
      new Promise((resolve, reject) => {
        const pause = ++pauses;
        wakers.set(pause, resolve);
        signal?.addEventListener("abort", () => {
          wakers.delete(pause);
          reject(new Error("the pause was cut short"));
        });
        say({ pause, call, ms });
      }),
  };
}

/** Returns the answer of one method; each call has a service of its own, as if each came from another process. */
function answer(message: Extract<Message, { call: number }>): unknown {
  if (!world) throw new Error("connect first");
  const subject: object =
    message.of === "service"
      ? new ContainerManagerService({ ...world, clock: clockOf(message.call), chance: () => 0.5 })
      : new OriginalContainerManager(world.dynamodb, world.tables, () => now);
  const method: unknown = Reflect.get(subject, message.method);
  if (typeof method !== "function") throw new TypeError(`there is no method ${message.method}`);
  const aborter = new AbortController();
  aborters.set(message.call, aborter);
  const args = message.args.map((arg) =>
    typeof arg === "object" && arg !== null && "signal" in arg && arg.signal === SIGNAL
      ? { ...arg, signal: aborter.signal }
      : arg,
  );
  return Reflect.apply(method, subject, args);
}

async function perform(message: Extract<Message, { call: number }>): Promise<void> {
  try {
    say({ done: message.call, value: (await answer(message)) ?? null });
  } catch (error) {
    const { name, message: text } = error instanceof Error ? error : new Error(String(error));
    say({ done: message.call, error: { ...(error as object), name, message: text } });
  } finally {
    aborters.delete(message.call);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line) as Message;
  if ("now" in message) now = message.now;
  if ("connect" in message) {
    world?.dynamodb.destroy();
    world = { dynamodb: connect(message.connect), tables: message.tables };
    troubles = [];
    wakers.clear();
  } else if ("call" in message) {
    void perform(message);
  } else if ("wake" in message) {
    wakers.get(message.wake)?.();
    wakers.delete(message.wake);
  } else if ("abort" in message) {
    aborters.get(message.abort)?.abort(new Error(message.reason));
  } else {
    troubles.push(message.trouble);
  }
}

// An open connection would keep the process.
world?.dynamodb.destroy();
