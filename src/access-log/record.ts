/** What Envoy says of a request that has ended: the fields of its record, in one line of text, and how they are read. */

/** Can't occur in a header: Envoy refuses control characters there, but for the tab. */
const SEPARATOR = "\u001f";

/** How Envoy writes that there is no value. A header that says just that is no value to Gorouter's log, either. */
const NOTHING = "-";

/** What is counted of every request, by Envoy's command operators: each costs Envoy time at each request. */
const PLAIN = {
  status: "%RESPONSE_CODE%",
  /** From the first byte of the request to the last of the answer; missing where the answer was not sent to its end. */
  responseUs: "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
  /** From the first byte sent to the app to the last of its answer. */
  appUs: "%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%",
  attempts: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
  /** In a record that does not tell the backend, of a request that had none: what its client wrote there. */
  appId: "%REQ(x-cf-applicationid)%",
};

/** What is counted by route, and of route services. */
const CLUSTER = { cluster: "%UPSTREAM_CLUSTER_RAW%" };

/** What tells why a request had no answer of an app, or another than others have. */
const FOR_FAULTS = {
  durationMs: "%DURATION%",
  flags: "%RESPONSE_FLAGS%",
  failureReason: "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
  routerError: "%RESP(x-cf-routererror)%",
  upgrade: "%REQ(upgrade)%",
  backend: "%UPSTREAM_HOST%",
};

/** What the access log needs besides. */
const FOR_LINES = {
  host: "%REQ(:authority)%",
  method: "%REQ(:method)%",
  uri: "%REQ(x-envoy-original-path?:path)%",
  protocol: "%PROTOCOL%",
  requestBytes: "%BYTES_RECEIVED%",
  responseBytes: "%BYTES_SENT%",
  referer: "%REQ(referer)%",
  userAgent: "%REQ(user-agent)%",
  // Envoy's other address is what a client says in X-Forwarded-For, where it says something.
  client: "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
  forwardedFor: "%REQ(x-forwarded-for)%",
  forwardedProto: "%REQ(x-forwarded-proto)%",
  requestId: "%REQ(x-vcap-request-id)%",
  appIndex: "%REQ(x-cf-instanceindex)%",
  /** The address of an instance whose guid is not known. */
  instanceId: "%REQ(x-cf-instanceid)%",
};

/** Behind PROXY protocol the connection is a load balancer's. */
const BEHIND_PROXY_PROTOCOL = { client: "%DOWNSTREAM_REMOTE_ADDRESS%" };

/** Fields of Gorouter's line that it has only when it is asked for them. */
const FOR_EXTRA_FIELDS = {
  localAddress: "%UPSTREAM_LOCAL_ADDRESS%",
  untilDialUs: "%COMMON_DURATION(DS_RX_BEG:US_CX_BEG:us)%",
  dialUs: "%COMMON_DURATION(US_CX_BEG:US_CX_END:us)%",
  tlsUs: "%COMMON_DURATION(US_CX_END:US_HS_END:us)%",
  untilSentUs: "%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)%",
};

/** Whose the endpoint is. */
const IDENTITY = ["appId", "appIndex", "instanceId"] as const;

/** Those of identity-aware domains. */
const FOR_CALLERS = {
  serverName: "%REQUESTED_SERVER_NAME%",
  connectionDomain: "%FILTER_STATE(cf-mesh.domain:PLAIN)%",
  callerSubject: "%DOWNSTREAM_PEER_SUBJECT%",
  policySource: "%METADATA(ROUTE:cf-mesh.route-policy:source)%",
};

const OPERATORS = { ...PLAIN, ...CLUSTER, ...FOR_FAULTS, ...FOR_LINES, ...FOR_EXTRA_FIELDS, ...FOR_CALLERS };
type Field = keyof typeof OPERATORS;
const NUMBERS = [
  "status",
  "responseUs",
  "durationMs",
  "appUs",
  "attempts",
  "requestBytes",
  "responseBytes",
  "untilDialUs",
  "dialUs",
  "tlsUs",
  "untilSentUs",
] as const satisfies readonly Field[];
type NumberField = (typeof NUMBERS)[number];

/**
 * A request, and the answer that the client got. Texts are bytes, one in each character, and "" where Envoy has none;
 * numbers are undefined there, and where the record was not asked for them.
 */
export type RequestRecord = Readonly<Record<Exclude<Field, NumberField>, string>> &
  Readonly<Record<NumberField, number | undefined>> & {
    /** "whole": all that is told of a request. Else there is a "plain" one of each request, and a "fault" of some. */
    readonly kind: "fault" | "plain" | "whole";
    /** Unix time in nanoseconds. */
    readonly startNs: bigint;
    /** Values of the headers that were asked for, in that order. */
    readonly headers: readonly string[];
  };

/** Told beside the others, of requests that had to be searched for. */
export interface WildcardRecord {
  readonly kind: "wildcard";
  /** As in the Host header. */
  readonly host: string;
}

const WILDCARD_FORMAT = "%REQ(:authority)%";

export interface RecordContents {
  /** Whether lines are to be made of the records; metrics alone need less. */
  readonly lines: boolean;
  /** Whether lines have fields beyond those that all have. */
  readonly extraFields: boolean;
  /** Whether lines tell of callers. */
  readonly callers: boolean;
  /** Whether connections may begin with a PROXY header. */
  readonly proxyProtocol: boolean;
  /** Names of request headers, for lines. */
  readonly headers: readonly string[];
  /** Whether something is counted by what requests are sent to. */
  readonly clusters: boolean;
}

/** What Envoy is to write. */
export interface WantedRecord {
  readonly format: string;
  /**
   * faults: not of requests that an app answered with a status below 400, and whose answer was sent to its end.
   * marked: of those that were found below a wildcard host.
   */
  readonly of: "all" | "faults" | "marked";
}

export interface RecordFormat {
  readonly records: readonly WantedRecord[];
  /** undefined for a text that is none of these records. */
  readonly parse: (startNs: bigint, text: string) => RequestRecord | WildcardRecord | undefined;
}

const NO_FIELDS = Object.fromEntries(Object.keys(OPERATORS).map((field) => [field, isNumber(field) ? undefined : ""]));

export function recordFormat(contents: RecordContents): RecordFormat {
  const { lines, extraFields, callers, proxyProtocol, headers, clusters } = contents;
  const plain = { ...PLAIN, ...(clusters && CLUSTER) };
  const fault = { ...plain, ...FOR_FAULTS };
  const forLines = {
    ...FOR_LINES,
    ...(proxyProtocol && BEHIND_PROXY_PROTOCOL),
    ...(extraFields && FOR_EXTRA_FIELDS),
    ...(callers && FOR_CALLERS),
  };
  const kinds = lines
    ? [recordKind("whole", { ...fault, ...forLines }, headers)]
    : [recordKind("plain", plain, []), recordKind("fault", fault, [])];
  return {
    records: [
      ...kinds.map(({ kind, format }) => ({ format, of: kind === "fault" ? ("faults" as const) : ("all" as const) })),
      { format: WILDCARD_FORMAT, of: "marked" },
    ],
    parse(startNs, text) {
      const values = text.split(SEPARATOR);
      if (values.length === 1) return text === "" ? undefined : { kind: "wildcard", host: text };
      // No two kinds have as many fields.
      return kinds.find(({ size }) => size === values.length)?.read(startNs, values);
    },
  };
}

function recordKind(kind: RequestRecord["kind"], operators: Partial<typeof OPERATORS>, headers: readonly string[]) {
  const fields = Object.keys(operators) as readonly Field[];
  const size = fields.length + headers.length;
  const backendPlace = fields.indexOf("backend");
  const Kind = class extends Values {};
  // Values are read when they are asked for: most of those that a record has, nobody asks for.
  const properties = fields.map((field, place) => [
    field,
    isNumber(field)
      ? {
          get(this: Values) {
            return numberOf(this.values[place] ?? NOTHING);
          },
        }
      : isIdentity(field)
        ? {
            get(this: Values) {
              return identityOf(this.values[place] ?? NOTHING, backendPlace < 0 ? "" : this.values[backendPlace]);
            },
          }
        : {
            get(this: Values) {
              return textOf(this.values[place] ?? NOTHING);
            },
          },
  ]) satisfies [string, PropertyDescriptor & ThisType<Values>][];
  Object.assign(Kind.prototype, NO_FIELDS, { kind });
  Object.defineProperties(Kind.prototype, {
    ...(Object.fromEntries(properties) as PropertyDescriptorMap),
    headers: {
      get(this: Values) {
        return this.values.slice(fields.length).map(textOf);
      },
    },
  });
  return {
    kind,
    size,
    format: [...Object.values(operators), ...headers.map((name) => `%REQ(${name})%`)].join(SEPARATOR),
    read: (startNs: bigint, values: readonly string[]) => new Kind(startNs, values) as unknown as RequestRecord,
  };
}

class Values {
  readonly startNs: bigint;
  readonly values: readonly string[];

  constructor(startNs: bigint, values: readonly string[]) {
    this.startNs = startNs;
    this.values = values;
  }
}

function isNumber(field: string): boolean {
  return NUMBERS.some((name) => name === field);
}

function isIdentity(field: Field): boolean {
  return IDENTITY.some((name) => name === field);
}

/** Headers that the router sets when it sends a request to an endpoint: until then they are the client's. */
function identityOf(value: string, backend: string | undefined): string {
  // Unix sockets lead to the mesh itself; and an instance whose guid is not known goes by its address.
  const isNoApp = backend === NOTHING || backend?.startsWith("/") === true || value === backend;
  return isNoApp ? "" : textOf(value.trim());
}

function textOf(value: string): string {
  return value === NOTHING ? "" : value;
}

function numberOf(value: string): number | undefined {
  const number = value === "" ? Number.NaN : Number(value);
  return Number.isFinite(number) && number >= 0 ? number : undefined;
}
