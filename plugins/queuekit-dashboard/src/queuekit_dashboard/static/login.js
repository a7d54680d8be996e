// Sends the token of the address, which is removed from it so that no history keeps it.
"use strict";
history.replaceState(null, "", location.pathname);
document.getElementById("login").submit();
