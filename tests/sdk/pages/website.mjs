// A page with supertokens-website 20.x: what every page of these tests gives to them, and what its package needs for it.
import SuperTokens from 'supertokens-website';

globalThis.events = [];

SuperTokens.init({
  apiDomain: location.origin,
  apiBasePath: '/auth',
  tokenTransferMethod: new URLSearchParams(location.search).get('transfer') ?? 'cookie',
  onHandleEvent: ({ action, sessionExpiredOrRevoked }) => events.push([action, sessionExpiredOrRevoked].join(' ').trim()),
});

globalThis.sdk = {
  doesSessionExist: () => SuperTokens.doesSessionExist(),
  getUserId: () => SuperTokens.getUserId(),
  signOut: () => SuperTokens.signOut(),
};
