// The code stands behind the link's #, which browsers send to nobody. It goes into the form, and out of the address.
"use strict";
const field = document.getElementById("id_code");
if (field && location.hash.length > 1) {
  field.value = location.hash.slice(1);
  field.closest(".form-row").hidden = true;
  history.replaceState(null, "", location.pathname);
}
