// A real OpenID provider for the tests of signing in by one: two issuers, of which the second puts mail and name into the
// ID token and the first has them fetched. Anyone may register a client. An account is what is typed at the login form,
// and its mail address too: proven, unless it begins with `unproven`. POST /rotate replaces the keys.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import http from 'node:http';
import Provider from 'oidc-provider';

const key = (kind, options, alg) => {
  const { privateKey } = generateKeyPairSync(kind, options);
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', ...(alg && { alg }) };
};

const keys = () => [
  key('rsa', { modulusLength: 2048 }),
  key('ec', { namedCurve: 'P-256' }, 'ES256'),
  key('ed25519', {}),
];

const findAccount = (_context, id) => ({
  accountId: id,
  claims: () => ({ sub: id, email: id, email_verified: !id.startsWith('unproven'), name: 'Ida Entity' }),
});

const provider = (issuer, jwks, conformIdTokenClaims) =>
  new Provider(issuer, {
    jwks: { keys: jwks },
    findAccount,
    claims: { email: ['email', 'email_verified'], profile: ['name'] },
    conformIdTokenClaims,
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'PS256', 'ES256', 'EdDSA', 'HS256'] },
    features: { registration: { enabled: true }, devInteractions: { enabled: true } },
    cookies: { keys: [randomUUID()] },
    pkce: { required: () => true },
    ttl: { IdToken: 60, AuthorizationCode: 600, AccessToken: 600, Interaction: 600, Session: 600, Grant: 600 },
  }).callback();

process.argv.slice(2).forEach((port, index) => {
  const issuer = `http://127.0.0.1:${port}`;
  let published = keys();
  let answer = provider(issuer, published, index === 0);
  const server = http.createServer((request, response) => {
    if (request.method !== 'POST' || request.url !== '/rotate') return answer(request, response);
    published = [...keys(), ...published]; // what was signed a moment ago can still be checked
    answer = provider(issuer, published, index === 0);
    return response.writeHead(204).end();
  });
  server.listen(Number(port), '127.0.0.1');
});
