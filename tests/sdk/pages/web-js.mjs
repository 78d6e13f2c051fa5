// A page with supertokens-web-js.
import SuperTokens from 'supertokens-web-js';
import Session from 'supertokens-web-js/recipe/session';

globalThis.events = [];

SuperTokens.init({
  appInfo: { appName: 'app', apiDomain: location.origin, apiBasePath: '/auth' },
  recipeList: [Session.init({
    tokenTransferMethod: new URLSearchParams(location.search).get('transfer') ?? 'cookie',
    onHandleEvent: ({ action, sessionExpiredOrRevoked }) => events.push([action, sessionExpiredOrRevoked].join(' ').trim()),
  })],
});

globalThis.sdk = {
  doesSessionExist: () => Session.doesSessionExist(),
  getUserId: () => Session.getUserId(),
  signOut: () => Session.signOut(),
};
