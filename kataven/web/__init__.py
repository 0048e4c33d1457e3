"""The request pipeline that the API app and the Hub app share: edge, credential, access, limits, handler, response."""
