// A page with supertokens-website 4.2.0, which has neither events nor a sign-out: pages call the application's own.
import Package from 'supertokens-website-4';

const SuperTokens = Package.default;

SuperTokens.init({ refreshTokenUrl: `${location.origin}/auth/session/refresh` });

globalThis.sdk = {
  doesSessionExist: () => SuperTokens.doesSessionExist(),
  signOut: () => fetch('/logout', { method: 'POST' }),
};
