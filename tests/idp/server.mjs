// An OpenID provider for the tests: npm's oidc-provider, with clients and accounts of ours, and doors below /control by which a
// test rotates its keys, takes a session or a grant away, or has a DPoP proof made by a library that is not ours.
//
// Usage: node server.mjs PORT STATE. Its keys are kept in the file STATE, so that it is the same provider after a restart.

import { createServer } from 'node:http';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

import * as dpop from 'dpop';
import { calculateJwkThumbprint, exportJWK, exportPKCS8, generateKeyPair } from 'jose';
import { Provider } from 'oidc-provider';

const [port, state] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const secret = 'client-secret-7b1e';

/** What tokens for each resource are; a resource that is not here is refused (`invalid_target`). */
const resources = {
  'urn:shop': { audience: 'shop-api', accessTokenFormat: 'jwt', accessTokenTTL: 3600 },
  'urn:brief': { audience: 'shop-api', accessTokenFormat: 'jwt', accessTokenTTL: 2 },
  'urn:other': { audience: 'other-api', accessTokenFormat: 'jwt', accessTokenTTL: 3600 },
  'urn:opaque': { audience: 'shop-api', accessTokenFormat: 'opaque', accessTokenTTL: 3600 },
  'urn:opaque-brief': { audience: 'shop-api', accessTokenFormat: 'opaque', accessTokenTTL: 2 },
  'urn:opaque-other': { audience: 'other-api', accessTokenFormat: 'opaque', accessTokenTTL: 3600 },
};
const scopes = 'orders:read orders:write';

/** Roles by account, and by client where a client acts for itself. */
const roles = { alice: ['premium', 'admin'], bob: ['basic'], machine: ['premium'], keyed: ['premium'], bound: ['premium'] };

const makeKey = async (alg) => {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  const jwk = await exportJWK(privateKey);
  return { ...jwk, alg, use: 'sig', kid: await calculateJwkThumbprint(jwk) };
};

const kept = existsSync(state)
  ? JSON.parse(readFileSync(state))
  : { alg: 'ES256', keys: [await makeKey('ES256'), await makeKey('RS256')], client: await makeKey('ES256') };
const save = () => writeFileSync(state, JSON.stringify(kept));
save();

let logoutUri;

/** What the authorization endpoint knew about the sign-in, for the access token. */
const signedIn = (ctx) => {
  const code = ctx.oidc.entities.AuthorizationCode ?? ctx.oidc.entities.RefreshToken;
  return code && { auth_time: code.authTime, acr: code.acr, amr: code.amr, sid: code.sid };
};

const confidential = { client_secret: secret, redirect_uris: [], response_types: [], grant_types: ['client_credentials'] };
const clients = () => [
  { ...confidential, client_id: 'machine' },
  { ...confidential, client_id: 'bound', dpop_bound_access_tokens: true },
  {
    ...confidential,
    client_secret: undefined,
    client_id: 'keyed',
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: 'ES256',
    jwks: { keys: [{ ...kept.client, d: undefined }] },
  },
  {
    ...confidential,
    client_id: 'web',
    redirect_uris: ['https://shop.test/callback'],
    response_types: ['code'],
    grant_types: ['authorization_code', 'refresh_token'],
    ...(logoutUri && { backchannel_logout_uri: logoutUri, backchannel_logout_session_required: true }),
  },
  // The resource server, who asks about opaque tokens.
  { ...confidential, client_id: 'gateway', grant_types: [] },
];

const provide = () => {
  const keys = kept.keys.filter((key) => key.alg === kept.alg).concat(kept.keys.filter((key) => key.alg !== kept.alg));
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: clients(),
    clientDefaults: { id_token_signed_response_alg: kept.alg },
    enabledJWA: { idTokenSigningAlgValues: ['ES256', 'RS256'], dPoPSigningAlgValues: ['ES256', 'EdDSA', 'RS256', 'PS256'] },
    cookies: { keys: ['only-for-tests'] },
    scopes: ['openid', 'offline_access'],
    acrValues: ['urn:pwd', 'urn:mfa'],
    findAccount: (_ctx, id) => (id in roles ? { accountId: id, claims: () => ({ sub: id }) } : undefined),
    extraTokenClaims: (ctx, token) => ({ roles: roles[token.accountId ?? token.clientId], ...signedIn(ctx) }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      revocation: { enabled: true },
      introspection: { enabled: true, allowedPolicy: (_ctx, client) => ['gateway', 'keyed'].includes(client.clientId) },
      dPoP: { enabled: true },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: { enabled: true, logoutSource: (ctx, form) => { ctx.body = form; } },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'urn:shop',
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, name) => {
          const resource = resources[name];
          if (!resource) throw Object.assign(new Error('invalid_target'), { status: 400, expose: true });
          return { scope: scopes, ...resource, ...(resource.accessTokenFormat === 'jwt' && { jwt: { sign: { alg: kept.alg } } }) };
        },
      },
    },
    // Its own dispatcher refuses addresses of this machine.
    fetch: (url, options) => fetch(url, { ...options, dispatcher: undefined }),
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    ttl: { Session: 3600, Grant: 3600, IdToken: 3600, Interaction: 600 },
  });
  for (const event of ['server_error', 'backchannel.error']) {
    provider.on(event, (_ctx, error) => console.error(event, error));
  }
  return provider;
};

let provider = provide();

/** Whoever `login_hint` names signs in and agrees, with the first of `acr_values`. */
const interact = async (request, response) => {
  const { params, session, prompt, grantId } = await provider.interactionDetails(request, response);
  const accountId = prompt.name === 'login' ? params.login_hint : session.accountId;
  const result = {};
  if (prompt.name === 'login') {
    const acr = params.acr_values?.split(' ')[0] ?? 'urn:pwd';
    result.login = { accountId, acr, amr: acr === 'urn:mfa' ? ['pwd', 'otp'] : ['pwd'] };
  }
  if (prompt.name === 'consent') {
    const grant = grantId ? await provider.Grant.find(grantId) : new provider.Grant({ accountId, clientId: params.client_id });
    grant.addOIDCScope('openid offline_access');
    for (const resource of Object.keys(resources)) grant.addResourceScope(resource, scopes);
    result.consent = { grantId: await grant.save() };
  }
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
};

const proofKeys = new Map();

const controls = {
  /** A new signing key; those before stay in the key set. */
  async rotate({ alg = kept.alg }) {
    kept.alg = alg;
    kept.keys.unshift(await makeKey(alg));
    save();
    provider = provide();
    return { kid: kept.keys[0].kid };
  },
  /** The key set without the keys before the newest of each algorithm. */
  async drop() {
    kept.keys = kept.keys.filter((key, at) => kept.keys.findIndex(({ alg }) => alg === key.alg) === at);
    save();
    provider = provide();
    return {};
  },
  /** Where logout tokens of the client `web` go. */
  async logout_uri({ uri }) {
    logoutUri = uri;
    provider = provide();
    return {};
  },
  /** The private key of the client `keyed`. */
  async client_key() {
    const key = await crypto.subtle.importKey('jwk', kept.client, { name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign']);
    return { pem: await exportPKCS8(key), kid: kept.client.kid };
  },
  /** A proof of possession by the package `dpop`, with the key of this name, which is made where there is none. */
  async proof({ key = 'first', alg = 'ES256', url, method, nonce, token, claims }) {
    const name = `${key} ${alg}`;
    if (!proofKeys.has(name)) proofKeys.set(name, await dpop.generateKeyPair(alg, { extractable: false }));
    const pair = proofKeys.get(name);
    const jkt = await dpop.calculateThumbprint(pair.publicKey);
    return { proof: await dpop.generateProof(pair, url, method, nonce, token ?? undefined, claims), jkt };
  },
};

const read = async (request) => {
  let text = '';
  for await (const piece of request) text += piece;
  return text ? JSON.parse(text) : {};
};

const server = createServer(async (request, response) => {
  try {
    const { pathname } = new URL(request.url, issuer);
    const control = pathname.startsWith('/control/') && controls[pathname.slice('/control/'.length)];
    if (control) {
      const answer = JSON.stringify(await control(await read(request)));
      response.writeHead(200, { 'content-type': 'application/json' }).end(answer);
    } else if (pathname.startsWith('/interaction/')) {
      await interact(request, response);
    } else {
      await provider.callback()(request, response);
    }
  } catch (error) {
    console.error(error);
    response.writeHead(500).end(String(error));
  }
});
server.listen(Number(port), '127.0.0.1', () => console.log(`listening on ${issuer}`));
