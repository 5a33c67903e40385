/**
 * What Hermes calls: open, touch and release a session, and get the container that serves it.
 *
 * It reads and writes the tables and never asks ECS: it states what is wanted, the controller starts and stops. Each
 * call may be sent again, since conditions in the tables make a second one harmless. Touch *before* a message goes to a
 * session's input queue: the touch is what a stop in progress looks for.
 *
 * The rules are those of docs/protocol.md; controller/sessions.py is the same in Python.
 */

import { setTimeout as pause } from "node:timers/promises";

import {
  DynamoDBClient,
  GetItemCommand,
  TransactWriteItemsCommand,
  UpdateItemCommand,
  type AttributeValue,
  type CancellationReason,
  type TransactWriteItem,
  type UpdateItemCommandInput,
} from "@aws-sdk/client-dynamodb";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** How long one call may wait for a container; the controller does not believe a wish much further ahead. */
export const LONGEST_WAIT_MS = 30 * MINUTE;
const POLL_MS = 500;
const CONFLICT_TRIES = 5;
const CONFLICT_FIRST_PAUSE_MS = 50;
const MAX_KEY_BYTES = 2048; // of a DynamoDB partition key
const MAX_TAG_CHARACTERS = 256; // of an ECS tag, which carries the container id, too

// What goes in and what comes out

/** Whose a container is. The container id is made of it, but cannot always be taken apart again: keep all three. */
export interface Identity {
  readonly clientId: string;
  readonly projectId: string;
  readonly userId: string;
}

/** A container that can be used. */
export interface Container extends Identity {
  readonly containerId: string;
  readonly taskArn: string;
  /** Missing only where tasks have no network interface of their own. */
  readonly containerIp: string | undefined;
  /** Which launch of the container this is; missing for a task that the controller did not launch. */
  readonly generation: number | undefined;
}

export interface CallOptions {
  /** Ends the call, which rejects with the signal's reason. What was sent may have worked; a repeat is harmless. */
  readonly signal?: AbortSignal | undefined;
}

export interface WaitOptions extends CallOptions {
  /** How long to wait, 1 s to 30 min; 5 min unless told otherwise. The wish for the container lasts as long. */
  readonly withinMs?: number | undefined;
}

export interface AssignOptions extends CallOptions {
  readonly inputQueueUrl?: string | undefined;
  readonly outputQueueUrl?: string | undefined;
}

export interface Tables {
  readonly sessions: string;
  readonly containers: string;
  readonly controller: string;
}

/** Time, so that tests need not wait. */
export interface Clock {
  /** Returns epoch milliseconds. */
  now(): number;
  /** Waits; rejects when the signal is aborted. */
  wait(ms: number, signal?: AbortSignal): Promise<void>;
}

export interface Settings {
  readonly dynamodb?: DynamoDBClient;
  readonly tables?: { readonly [table in keyof Tables]?: string | undefined };
  readonly clock?: Clock;
  /** Returns a number in [0, 1) that keeps writers who met once from meeting again. */
  readonly chance?: () => number;
}

// What can go wrong. Errors of the SDK (no credentials, no table, throttled, …) are passed on as they are.

/** Something that a person can act on: `what` failed, `why`, and what `todo` about it. */
export class ContainerManagerError extends Error {
  override readonly name: string = "ContainerManagerError";
  readonly what: string;
  readonly why: string;
  readonly todo: string;

  constructor(what: string, why = "", todo = "") {
    super(why ? `${what}: ${why}` : what);
    this.what = what;
    this.why = why;
    this.todo = todo;
  }
}

/** A client, project or user id that cannot name a container. */
export class InvalidIdentity extends ContainerManagerError {
  override readonly name = "InvalidIdentity";
}
/** A row of the tables cannot be read. */
export class RowError extends ContainerManagerError {
  override readonly name = "RowError";
}
/** The session is open on another container. */
export class SessionExists extends ContainerManagerError {
  override readonly name = "SessionExists";
}
/** The session is not open, or no longer. */
export class SessionNotFound extends ContainerManagerError {
  override readonly name = "SessionNotFound";
}
/** Another client, project and user have this container id. */
export class IdentityConflict extends ContainerManagerError {
  override readonly name = "IdentityConflict";
}
/** An operator's hold or pause forbids a start. */
export class Held extends ContainerManagerError {
  override readonly name = "Held";
}
/** A declaration says that this container is to be stopped. */
export class StoppedByDeclaration extends ContainerManagerError {
  override readonly name = "StoppedByDeclaration";
}
/** The container was tried and did not come up. */
export class LaunchFailed extends ContainerManagerError {
  override readonly name = "LaunchFailed";
}
/** The deadline passed before the container was ready. */
export class NotReadyInTime extends ContainerManagerError {
  override readonly name = "NotReadyInTime";
}
/** Other writers were in the way five times: send it again. */
export class TransactionConflict extends ContainerManagerError {
  override readonly name = "TransactionConflict";
}

// The service

export class ContainerManagerService {
  readonly #dynamodb: DynamoDBClient;
  readonly #tables: Tables;
  readonly #clock: Clock;
  readonly #chance: () => number;

  constructor(settings: Settings = {}) {
    this.#dynamodb = settings.dynamodb ?? defaultClient();
    this.#tables = {
      sessions: settings.tables?.sessions ?? "webordinary-edit-sessions",
      containers: settings.tables?.containers ?? "webordinary-containers",
      controller: settings.tables?.controller ?? "webordinary-controller",
    };
    this.#clock = settings.clock ?? { now: Date.now, wait: (ms, signal) => pause(ms, undefined, { signal }) };
    this.#chance = settings.chance ?? Math.random;
  }

  /**
   * Returns the container when it is ready, asking for it if it does not run.
   *
   * Rejects with Held, StoppedByDeclaration, LaunchFailed, NotReadyInTime, IdentityConflict or InvalidIdentity. When
   * it rejects or is aborted, the wish stays until its deadline, and so may a container that started by then.
   */
  async getOrCreateContainer(
    clientId: string,
    projectId: string,
    userId: string,
    options: WaitOptions = {},
  ): Promise<Container> {
    const { withinMs = 5 * MINUTE, signal } = options;
    const identity = { clientId, projectId, userId };
    const containerId = containerIdOf(identity);
    if (!Number.isInteger(withinMs) || withinMs < SECOND || withinMs > LONGEST_WAIT_MS) {
      throw new RangeError(`withinMs is ${withinMs}; it may be ${SECOND} to ${LONGEST_WAIT_MS}, whole`);
    }
    const asked = this.#now();
    const deadline = asked + withinMs;
    await this.#want(identity, deadline, asked, signal);
    for (;;) {
      const record = await this.#record(containerId, signal);
      const ready = record && readyContainer(record, identity);
      if (ready) return ready;
      await this.#checkAllowed(containerId, record, signal);
      if (this.#now() >= deadline || isHopeless(record, asked, deadline)) {
        throw notReady(containerId, record, asked, withinMs);
      }
      await this.#wait(POLL_MS, signal);
    }
  }

  /**
   * Opens a session on a container; false when it was open there already.
   *
   * Hand over what getOrCreateContainer returned, or the three ids. A bare container id works as well: its record, or
   * else its text where that can be read in only one way, says whose it is.
   *
   * Rejects with SessionExists, IdentityConflict or InvalidIdentity.
   */
  async assignSessionToContainer(
    sessionId: string,
    container: Identity | string,
    options: AssignOptions = {},
  ): Promise<boolean> {
    const { inputQueueUrl, outputQueueUrl, signal } = options;
    const identity = typeof container === "string" ? await this.#ownerOf(container, signal) : container;
    const containerId = containerIdOf(identity);
    const now = this.#now();
    const row: Item = {
      sessionId: { S: sessionId },
      containerId: { S: containerId },
      ...(inputQueueUrl ? { inputQueueUrl: { S: inputQueueUrl } } : {}),
      ...(outputQueueUrl ? { outputQueueUrl: { S: outputQueueUrl } } : {}),
      createdAt: { S: new Date(now).toISOString() },
      lastActivity: numberOf(now),
      clientId: { S: identity.clientId },
      projectId: { S: identity.projectId },
      userId: { S: identity.userId },
    };
    const operations: TransactWriteItem[] = [
      { Put: { TableName: this.#tables.sessions, Item: row, ConditionExpression: "attribute_not_exists(sessionId)" } },
      {
        Update: {
          ...this.#recordKey(containerId),
          UpdateExpression: `${MOVE_FENCE_AND_OWN} ADD sessionCount :one`,
          ConditionExpression: SAME_OWNER,
          ExpressionAttributeValues: { ...ownerValues(identity, now), ":one": numberOf(1) },
          ReturnValuesOnConditionCheckFailure: "ALL_OLD",
        },
      },
    ];
    return this.#againOnConflict(signal, async () => {
      const refused = await this.#transact(operations, signal);
      if (!refused) return true;
      if (!isRefusal(refused[0])) throw identityConflict(identity, refused[1]?.Item);
      const there = await this.#session(sessionId, signal);
      if (!there) throw inBetween("open", sessionId);
      checkSame(sessionId, there, identity);
      return false;
    });
  }

  /**
   * Says that the session is active now. Call it before you send to the session's input queue.
   *
   * Rejects with SessionNotFound when the session is not open: a touch never revives.
   */
  async touchSession(sessionId: string, options: CallOptions = {}): Promise<void> {
    const { signal } = options;
    const session = await this.#session(sessionId, signal);
    if (!session) {
      throw new SessionNotFound(
        `session ${shown(sessionId)} is not open`,
        "it was never opened, or it was released",
        "open it first",
      );
    }
    // Not "only if later": a writer whose clock is behind would not move the fence at all.
    const now = numberOf(this.#now());
    const operations: TransactWriteItem[] = [
      {
        Update: {
          ...this.#sessionKey(sessionId),
          UpdateExpression: "SET lastActivity = :now",
          ConditionExpression: "containerId = :container",
          ExpressionAttributeValues: { ":now": now, ":container": { S: session.containerId } },
        },
      },
      {
        Update: {
          ...this.#recordKey(session.containerId),
          UpdateExpression: "SET lastActivity = :now",
          ConditionExpression: "attribute_exists(containerId)",
          ExpressionAttributeValues: { ":now": now },
        },
      },
    ];
    const refused = await this.#againOnConflict(signal, () => this.#transact(operations, signal));
    if (refused) {
      throw new SessionNotFound(
        `session ${shown(sessionId)} is not open on container ${shown(session.containerId)}`,
        isRefusal(refused[0]) ? "its row is gone, or is another container's" : "the container has no record",
        "open it again",
      );
    }
  }

  /** Closes the session; false when it was not open. Its container lives on for the idle timeout. */
  async releaseSession(sessionId: string, options: CallOptions = {}): Promise<boolean> {
    const { signal } = options;
    const session = await this.#session(sessionId, signal);
    if (!session) return false;
    const now = this.#now();
    return this.#againOnConflict(signal, async () => {
      for (const count of [COUNT_DOWN, COUNT_IS_ZERO]) {
        const refused = await this.#transact(this.#release(sessionId, session.containerId, now, count), signal);
        if (!refused) return true;
        if (isRefusal(refused[0])) return false;
      }
      // The count was not above 0, and then it was: somebody opened a session in between.
      throw inBetween("release", sessionId);
    });
  }

  #release(sessionId: string, containerId: string, now: number, count: CountChange): TransactWriteItem[] {
    return [
      {
        Delete: {
          ...this.#sessionKey(sessionId),
          ConditionExpression: "containerId = :container",
          ExpressionAttributeValues: { ":container": { S: containerId } },
        },
      },
      {
        Update: {
          ...this.#recordKey(containerId),
          UpdateExpression: count.update,
          ConditionExpression: count.condition,
          ExpressionAttributeValues: { ":now": numberOf(now), ...count.values },
        },
      },
    ];
  }

  /** Asks for the container until then, creating its record if there is none; never shortens an earlier wish. */
  #want(identity: Identity, until: number, now: number, signal: AbortSignal | undefined): Promise<void> {
    const update = (set: string, condition: string): UpdateItemCommandInput => ({
      ...this.#recordKey(containerIdOf(identity)),
      UpdateExpression: MOVE_FENCE_AND_OWN + set,
      ConditionExpression: `${SAME_OWNER} AND ${condition}`,
      ExpressionAttributeValues: { ...ownerValues(identity, now), ":until": numberOf(until) },
      ReturnValuesOnConditionCheckFailure: "ALL_OLD",
    });
    const longer = update(", wantedUntil = :until", `(${absent("wantedUntil")} OR wantedUntil < :until)`);
    const asLong = update("", "wantedUntil >= :until");
    return this.#againOnConflict(signal, async () => {
      for (const request of [longer, asLong]) {
        const refused = await this.#update(request, signal);
        if (!refused) return;
        if (!isOwner(identity, refused.item)) throw identityConflict(identity, refused.item);
      }
      throw inBetween("want", containerIdOf(identity));
    });
  }

  async #checkAllowed(containerId: string, record: Row | undefined, signal: AbortSignal | undefined): Promise<void> {
    const paused = await this.#read(this.#tables.controller, "name", "pause", signal);
    const now = this.#now();
    checkHold(containerId, paused && pauseOf(paused), now, "everything is paused", "editctl unpause");
    const hold = record?.map("hold");
    checkHold(containerId, hold && holdOf(hold), now, "it is held", `editctl unhold ${containerId}`);
    if (record?.map("declared")?.text("runPolicy") === "Stopped") {
      throw new StoppedByDeclaration(
        `${shown(containerId)} is not started: its declaration says Stopped`,
        "an EditContainer object with runPolicy Stopped names it",
        "change runPolicy to Auto",
      );
    }
  }

  async #ownerOf(containerId: string, signal: AbortSignal | undefined): Promise<Identity> {
    const record = await this.#record(containerId, signal);
    const identity = (record && ownerIn(record, containerId)) ?? splitContainerId(containerId);
    if (identity) return identity;
    throw new InvalidIdentity(
      `container id ${shown(containerId)} does not say whose it is`,
      "it has no record yet, and its text can be read in more than one way",
      "give clientId, projectId and userId",
    );
  }

  // Tables

  async #session(sessionId: string, signal: AbortSignal | undefined): Promise<Session | undefined> {
    const row = await this.#read(this.#tables.sessions, "sessionId", sessionId, signal);
    if (!row) return undefined;
    const containerId = row.needed("containerId", row.text("containerId"));
    return { containerId, identity: ownerIn(row, containerId) };
  }

  #record(containerId: string, signal: AbortSignal | undefined): Promise<Row | undefined> {
    return this.#read(this.#tables.containers, "containerId", containerId, signal);
  }

  async #read(table: string, key: string, value: string, signal: AbortSignal | undefined): Promise<Row | undefined> {
    const command = new GetItemCommand({ TableName: table, Key: { [key]: { S: value } }, ConsistentRead: true });
    const { Item: item } = await orAborted(signal, () => this.#dynamodb.send(command, sendOptions(signal)));
    return item && new Row(item);
  }

  /** Returns nothing when it is done, else a reason for each operation. Throws TransactionConflict. */
  async #transact(
    operations: TransactWriteItem[],
    signal: AbortSignal | undefined,
  ): Promise<readonly CancellationReason[] | undefined> {
    const command = new TransactWriteItemsCommand({ TransactItems: operations });
    try {
      await orAborted(signal, () => this.#dynamodb.send(command, sendOptions(signal)));
      return undefined;
    } catch (error) {
      if (isConflict(error)) throw conflict("a transaction");
      const reasons = cancellationReasons(error);
      const codes = reasons.map((reason) => reason.Code ?? "None");
      // A conflict or a throttle among the reasons says nothing about the conditions, so they come first.
      if (codes.includes("TransactionConflict")) throw conflict("a transaction");
      if (codes.includes(REFUSED) && codes.every((code) => code === REFUSED || code === "None")) return reasons;
      throw error;
    }
  }

  /** Returns nothing when it is done, else the row that is there instead. Throws TransactionConflict. */
  async #update(
    request: UpdateItemCommandInput,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly item: Item | undefined } | undefined> {
    const command = new UpdateItemCommand(request);
    try {
      await orAborted(signal, () => this.#dynamodb.send(command, sendOptions(signal)));
      return undefined;
    } catch (error) {
      if (isConflict(error)) throw conflict("an update");
      if (isNamed(error, "ConditionalCheckFailedException")) return { item: (error as { Item?: Item }).Item };
      throw error;
    }
  }

  async #againOnConflict<T>(signal: AbortSignal | undefined, call: () => Promise<T>): Promise<T> {
    for (let attempt = 1; attempt < CONFLICT_TRIES; attempt++) {
      try {
        return await call();
      } catch (error) {
        if (!(error instanceof TransactionConflict)) throw error;
      }
      await this.#wait(CONFLICT_FIRST_PAUSE_MS * 2 ** attempt * (0.5 + this.#chance() / 2), signal);
    }
    return call();
  }

  #sessionKey(sessionId: string): { TableName: string; Key: Item } {
    return { TableName: this.#tables.sessions, Key: { sessionId: { S: sessionId } } };
  }

  #recordKey(containerId: string): { TableName: string; Key: Item } {
    return { TableName: this.#tables.containers, Key: { containerId: { S: containerId } } };
  }

  #now(): number {
    // The controller takes a fraction of a millisecond for a broken row.
    return Math.floor(this.#clock.now());
  }

  #wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
    return orAborted(signal, () => this.#clock.wait(ms, signal));
  }
}

function defaultClient(): DynamoDBClient {
  // Without time-outs the SDK waits for ever on a connection that broke without a word.
  return new DynamoDBClient({
    maxAttempts: 3,
    requestHandler: { connectionTimeout: 3 * SECOND, requestTimeout: 15 * SECOND, throwOnRequestTimeout: true },
  });
}

function sendOptions(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal ? { abortSignal: signal } : {};
}

/** Throws the signal's own reason when it is aborted: the SDK and the timers have errors of their own for that. */
async function orAborted<T>(signal: AbortSignal | undefined, call: () => Promise<T>): Promise<T> {
  signal?.throwIfAborted();
  try {
    return await call();
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

// Identity

/** Returns the container id. Throws InvalidIdentity for ids that the controller could not take. */
export function containerIdOf(identity: Identity): string {
  const { clientId, projectId, userId } = identity;
  for (const [name, value] of Object.entries({ clientId, projectId, userId })) checkPart(name, value);
  const containerId = `${clientId}-${projectId}-${userId}`;
  if (new TextEncoder().encode(containerId).length > MAX_KEY_BYTES || tagLength(containerId) > MAX_TAG_CHARACTERS) {
    throw new InvalidIdentity(
      `container id ${shown(containerId)} is too long`,
      `it takes ${tagLength(containerId)} characters as a tag, ECS allows ${MAX_TAG_CHARACTERS}`,
      "use shorter client, project and user ids",
    );
  }
  return containerId;
}

function checkPart(name: string, value: unknown): void {
  if (typeof value !== "string" || !value) {
    throw new InvalidIdentity(
      `${name} is empty`,
      "a container belongs to one client, project and user",
      `give a ${name}`,
    );
  }
  if (value.normalize("NFC") !== value) {
    throw new InvalidIdentity(
      `${name} ${shown(value)} is not in Unicode NFC`,
      "two spellings of one name would get two containers",
      "normalise it",
    );
  }
  if (/[\p{Cc}\p{Cs}]/u.test(value)) {
    throw new InvalidIdentity(
      `${name} ${shown(value)} has a control character`,
      "it can be neither a tag nor an environment value",
      "remove it",
    );
  }
}

/** Returns how long the text is as a tag, where the controller writes `=` and two digits for each byte ECS refuses. */
function tagLength(text: string): number {
  const escaped = (c: string): number => 3 * new TextEncoder().encode(c).length;
  const lengths = Array.from(text, (c) => (/[\p{L}\p{N} _.:/+@-]/u.test(c) ? 1 : escaped(c)));
  const reserved = /^aws:/i.test(text) ? 2 : 0; // its first letter is escaped, too
  return lengths.reduce((sum, length) => sum + length, reserved);
}

function splitContainerId(containerId: string): Identity | undefined {
  const [clientId, projectId, userId, more] = containerId.split("-");
  return more === undefined ? identityOf(clientId, projectId, userId) : undefined;
}

function identityOf(clientId?: string, projectId?: string, userId?: string): Identity | undefined {
  if (!clientId || !projectId || !userId) return undefined;
  const identity = { clientId, projectId, userId };
  try {
    containerIdOf(identity);
    return identity;
  } catch {
    return undefined;
  }
}

// Conditions and updates. No attribute that they name is a reserved word of DynamoDB.

type Item = Record<string, AttributeValue>;

interface CountChange {
  readonly update: string;
  readonly condition: string;
  readonly values: Item;
}

const OWNER = ["clientId", "projectId", "userId"] as const;
const REFUSED = "ConditionalCheckFailed";

/** `lastActivity` of the record is the fence that a stop compares, so every call moves it to now. */
const MOVE_FENCE_AND_OWN = "SET lastActivity = :now, clientId = :clientId, projectId = :projectId, userId = :userId";
const SAME_OWNER = OWNER.map((name) => `(${absent(name)} OR ${name} = :${name})`).join(" AND ");

const COUNT_DOWN: CountChange = {
  update: "SET lastActivity = :now ADD sessionCount :minusOne",
  condition: "sessionCount > :zero",
  values: { ":minusOne": numberOf(-1), ":zero": numberOf(0) },
};
/** For a row that was never counted, or whose count somebody else took off already. */
const COUNT_IS_ZERO: CountChange = {
  update: "SET lastActivity = :now, sessionCount = :zero",
  condition: "NOT attribute_type(sessionCount, :aNumber) OR sessionCount <= :zero",
  values: { ":zero": numberOf(0), ":aNumber": { S: "N" } },
};

/** Returns "nothing is there", for which NULL and an empty text count, too. */
function absent(name: string): string {
  return `(attribute_not_exists(${name}) OR attribute_type(${name}, :null) OR ${name} = :empty)`;
}

function ownerValues(identity: Identity, now: number): Item {
  return {
    ":now": numberOf(now),
    ":clientId": { S: identity.clientId },
    ":projectId": { S: identity.projectId },
    ":userId": { S: identity.userId },
    ":null": { S: "NULL" },
    ":empty": { S: "" },
  };
}

function numberOf(value: number): AttributeValue {
  return { N: String(value) };
}

function isRefusal(reason: CancellationReason | undefined): boolean {
  return reason?.Code === REFUSED;
}

/** Says whether the record is this identity's or nobody's. */
function isOwner(identity: Identity, item: Item | undefined): boolean {
  return OWNER.every((name) => isAbsent(item?.[name]) || item?.[name]?.S === identity[name]);
}

function isAbsent(value: AttributeValue | undefined): boolean {
  return value === undefined || value.NULL !== undefined || value.S === "";
}

// By name, since the client may come from another copy of the SDK.
function isNamed(error: unknown, name: string): boolean {
  return error instanceof Error && error.name === name;
}

function isConflict(error: unknown): boolean {
  return isNamed(error, "TransactionConflictException") || isNamed(error, "TransactionInProgressException");
}

function cancellationReasons(error: unknown): readonly CancellationReason[] {
  if (!isNamed(error, "TransactionCanceledException")) return [];
  return (error as { CancellationReasons?: CancellationReason[] }).CancellationReasons ?? [];
}

// Rows

interface Session {
  readonly containerId: string;
  readonly identity: Identity | undefined;
}

/** One row, or one map in it, read by type: undefined for what is not there, RowError for what is something else. */
class Row {
  readonly #item: Item;
  readonly #path: string;

  constructor(item: Item, path = "") {
    this.#item = item;
    this.#path = path;
  }

  text(name: string): string | undefined {
    const value = this.#value(name);
    return value && this.needed(name, value.S, "a text");
  }

  whole(name: string): number | undefined {
    const value = this.#value(name);
    if (!value) return undefined;
    const found = Number(this.needed(name, value.N, "a number"));
    return this.needed(name, Number.isSafeInteger(found) && found >= 0 ? found : undefined, "a whole number");
  }

  map(name: string): Row | undefined {
    const value = this.#value(name);
    return value && new Row(this.needed(name, value.M, "a map"), `${this.#path}${name}.`);
  }

  needed<T>(name: string, value: T | undefined, kind = "there"): T {
    if (value !== undefined) return value;
    throw new RowError(
      `${this.#path}${name} is not ${kind}: ${shown(this.#item[name])}`,
      "the row was not written by this system",
      "correct or delete the row",
    );
  }

  #value(name: string): AttributeValue | undefined {
    const value = this.#item[name];
    return isAbsent(value) ? undefined : value;
  }
}

/** Returns the triple that a row carries. Throws RowError for a part of one, or for that of another container. */
function ownerIn(row: Row, containerId: string): Identity | undefined {
  const [clientId, projectId, userId] = OWNER.map((name) => row.text(name));
  if (clientId === undefined && projectId === undefined && userId === undefined) return undefined;
  const identity = identityOf(clientId, projectId, userId);
  if (identity && containerIdOf(identity) === containerId) return identity;
  throw new RowError(
    `clientId, projectId, userId do not make the container id ${shown(containerId)} of their row`,
    "it cannot be said whose row this is",
    "correct or delete the row",
  );
}

function readyContainer(record: Row, identity: Identity): Container | undefined {
  const containerId = containerIdOf(identity);
  const owner = ownerIn(record, containerId);
  const taskArn = record.text("taskArn");
  if (record.text("containerStatus") !== "running" || taskArn === undefined) return undefined;
  if (owner && !isSame(owner, identity)) throw conflictWith(identity, owner);
  const [containerIp, generation] = [record.text("containerIp"), record.whole("generation")];
  return { ...identity, containerId, taskArn, containerIp, generation };
}

interface Hold {
  readonly by: string;
  readonly reason: string;
  readonly until: number;
}

function holdOf(row: Row): Hold {
  const [by, reason] = [row.text("by") ?? "", row.text("reason") ?? ""];
  return { by, reason, until: row.needed("until", row.whole("until")) };
}

function pauseOf(row: Row): Hold {
  try {
    return holdOf(row);
  } catch (error) {
    if (!(error instanceof RowError)) throw error;
    // Somebody wanted everything to stand still; that the row is broken does not say until when.
    return { by: "", reason: `the pause row cannot be read: ${error.what}`, until: Infinity };
  }
}

function checkHold(containerId: string, hold: Hold | undefined, now: number, how: string, lift: string): void {
  if (!hold || hold.until <= now) return;
  throw new Held(
    `${shown(containerId)} is not started: ${how} by ${hold.by || "somebody"}`,
    `${hold.reason}; ${hold.until === Infinity ? "until it is lifted" : `for another ${duration(hold.until - now)}`}`,
    `wait, or: ${lift}`,
  );
}

/** Says whether no launch is tried again before the deadline. */
function isHopeless(record: Row | undefined, asked: number, deadline: number): boolean {
  const failure = record?.map("failure");
  if (!failure) return false;
  const [at, retryAt] = [failure.whole("at"), failure.whole("retryAt")];
  return failure.needed("at", at) >= asked && failure.needed("retryAt", retryAt) >= deadline;
}

function notReady(containerId: string, record: Row | undefined, asked: number, withinMs: number): Error {
  const failure = record?.map("failure");
  const explain = `editctl explain ${containerId}`;
  if (failure && (failure.whole("at") ?? 0) >= asked) {
    return new LaunchFailed(`${shown(containerId)} did not start`, failure.text("reason") ?? "", explain);
  }
  return new NotReadyInTime(
    `${shown(containerId)} was not ready within ${duration(withinMs)}`,
    `its record says: ${record?.text("containerStatus") ?? "not started"}; is a controller running?`,
    explain,
  );
}

// Sentences

function checkSame(sessionId: string, there: Session, identity: Identity): void {
  if (there.containerId !== containerIdOf(identity)) {
    throw new SessionExists(
      `session ${shown(sessionId)} is open on container ${shown(there.containerId)}`,
      "a session belongs to one container",
      "release it there first",
    );
  }
  if (there.identity && !isSame(there.identity, identity)) throw conflictWith(identity, there.identity);
}

function isSame(one: Identity, other: Identity): boolean {
  return OWNER.every((name) => one[name] === other[name]);
}

function identityConflict(identity: Identity, item: Item | undefined): IdentityConflict {
  return conflictWith(identity, identityOf(...OWNER.map((name) => item?.[name]?.S)));
}

function conflictWith(identity: Identity, owner: Identity | undefined): IdentityConflict {
  return new IdentityConflict(
    `container id ${shown(containerIdOf(identity))} belongs to ${owner ? spelt(owner) : "somebody else"}`,
    `${spelt(identity)} makes the same text`,
    "choose another client, project or user id: one without '-' cannot meet another",
  );
}

function conflict(what: string): TransactionConflict {
  return new TransactionConflict(`${what} met another one`, "two writers wanted the same rows", "send it again");
}

function inBetween(what: string, name: string): TransactionConflict {
  return new TransactionConflict(
    `${what} of ${shown(name)} met another writer`,
    "a row changed in between",
    "send it again",
  );
}

function spelt(identity: Identity): string {
  return OWNER.map((name) => identity[name]).join(" + ");
}

/** Returns a value of unknown origin so that it can stand in a sentence: quoted, escaped, cut. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

function duration(ms: number): string {
  if (ms < 10 * SECOND && ms % SECOND) return `${(ms / SECOND).toFixed(1)} s`;
  if (ms < 2 * MINUTE) return `${Math.floor(ms / SECOND)} s`;
  if (ms < 2 * HOUR) return `${Math.floor(ms / MINUTE)} min`;
  return ms < 2 * DAY ? `${Math.floor(ms / HOUR)} h` : `${Math.floor(ms / DAY)} d`;
}
