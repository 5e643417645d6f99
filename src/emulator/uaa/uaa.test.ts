import { createRemoteJWKSet, decodeJwt, jwtVerify } from "jose";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type EmulatedFoundation, startEmulatedFoundation } from "../../../test/support/emulated-foundation.js";

interface TokenAnswer {
  readonly access_token: string;
  readonly refresh_token?: string;
  readonly jti: string;
}

describe("the emulated UAA", () => {
  let cf: EmulatedFoundation;
  const CF = { authorization: `Basic ${Buffer.from("cf:").toString("base64")}` };

  beforeAll(async () => {
    cf = await startEmulatedFoundation({
      clients: [{ id: "extra", secret: "s3", authorities: ["cloud_controller.read"] }],
    });
  });
  afterAll(() => cf.close());

  async function token(form: Record<string, string>, headers: Record<string, string> = {}) {
    const body = new URLSearchParams(form);
    const response = await fetch(`${cf.foundation.uaaUrl}/oauth/token`, { method: "POST", body, headers });
    return { status: response.status, body: (await response.json()) as TokenAnswer };
  }
  const login = () => token({ grant_type: "password", username: "admin", password: "admin" }, CF);
  const clientLogin = () => {
    const { clientId, clientSecret } = cf.foundation;
    return token({ grant_type: "client_credentials", client_id: clientId, client_secret: clientSecret });
  };

  it("prompts for no more than the CLI knows", async () => {
    const answer = (await (await fetch(`${cf.foundation.uaaUrl}/login`)).json()) as { prompts: object };
    expect(Object.keys(answer.prompts)).toEqual(["username", "password", "passcode"]);
  });

  it("logs a user in with a token that its published key verifies", async () => {
    const { status, body } = await login();
    expect(status).toBe(200);
    expect(body).toMatchObject({ token_type: "bearer", expires_in: 3600 });
    const keys = createRemoteJWKSet(new URL(`${cf.foundation.uaaUrl}/token_keys`));
    const { payload, protectedHeader } = await jwtVerify(body.access_token, keys, {
      issuer: `${cf.foundation.uaaUrl}/oauth/token`,
      currentDate: new Date(cf.clock.nowMs),
    });
    expect(protectedHeader.alg).toBe("RS256");
    expect(payload).toMatchObject({ user_name: "admin", origin: "uaa", client_id: "cf", zid: "uaa", jti: body.jti });
    expect(typeof payload["user_id"]).toBe("string");
  });

  it("gives a client a token without user_name or refresh token", async () => {
    const { body } = await clientLogin();
    expect(body.refresh_token).toBeUndefined();
    const claims = decodeJwt(body.access_token);
    expect(claims["client_id"]).toBe(cf.foundation.clientId);
    expect(claims["scope"]).toEqual(["cloud_controller.global_auditor", "routing.router_groups.read"]);
    expect(claims).not.toHaveProperty("user_name");
  });

  it("takes a refresh token once", async () => {
    const { body } = await login();
    const form = { grant_type: "refresh_token", refresh_token: body.refresh_token ?? "" };
    const refreshed = await token(form, CF);
    expect(refreshed.status).toBe(200);
    expect(decodeJwt(refreshed.body.access_token)["user_name"]).toBe("admin");
    expect(await token(form, CF)).toMatchObject({ status: 401, body: { error: "invalid_token" } });
  });

  it("refuses wrong passwords, clients and grants", async () => {
    const wrong = { grant_type: "password", username: "admin", password: "no" };
    expect(await token(wrong, CF)).toEqual({
      status: 401,
      body: { error: "unauthorized", error_description: "Bad credentials" },
    });
    const client = { grant_type: "client_credentials", client_id: "extra", client_secret: "no" };
    expect(await token(client)).toMatchObject({ status: 401, body: { error: "invalid_client" } });
    expect((await token({ ...client, client_secret: "s3" })).status).toBe(200);
    expect(await token({ grant_type: "dance" }, CF)).toMatchObject({ status: 400 });
  });

  it("lets a global auditor read, and not write", async () => {
    const authorization = `bearer ${(await clientLogin()).body.access_token}`;
    expect((await cf.call("GET", "/v3/routes", undefined, { authorization })).status).toBe(200);
    const { status, body } = await cf.call("POST", "/v3/organizations", { name: "x" }, { authorization });
    expect([status, body.errors[0].title]).toEqual([403, "CF-NotAuthorized"]);
  });

  it("has tokens refused that are missing, wrong, expired or revoked", async () => {
    const titleFor = async (authorization: string) => {
      const { status, body } = await cf.call("GET", "/v3/routes", undefined, { authorization });
      return status === 200 ? "fine" : `${status} ${body.errors[0].title}`;
    };
    expect(await titleFor("")).toBe("401 CF-NotAuthenticated");
    expect(await titleFor("bearer nonsense")).toBe("401 CF-InvalidAuthToken");

    cf.foundation.faults.tokenLifetimeSeconds = 60;
    const short = `bearer ${(await clientLogin()).body.access_token}`;
    expect(await titleFor(short)).toBe("fine");
    cf.clock.forward(61);
    expect(await titleFor(short)).toBe("401 CF-InvalidAuthToken");

    const revoked = `bearer ${(await clientLogin()).body.access_token}`;
    expect(await titleFor(revoked)).toBe("fine");
    await cf.foundation.faults.revokeTokens();
    expect(await titleFor(revoked)).toBe("401 CF-InvalidAuthToken");
    expect(await titleFor(`bearer ${(await clientLogin()).body.access_token}`)).toBe("fine");
  });
});
