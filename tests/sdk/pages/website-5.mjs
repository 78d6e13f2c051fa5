// A page with supertokens-website 5.1.1, which has no events.
import Package from 'supertokens-website-5';

const SuperTokens = Package.default;

SuperTokens.init({ apiDomain: location.origin, apiBasePath: '/auth' });

globalThis.sdk = {
  doesSessionExist: () => SuperTokens.doesSessionExist(),
  getUserId: () => SuperTokens.getUserId(),
  signOut: () => SuperTokens.signOut(),
};
